"""The feature extractor that ships: it makes what the graph takes, and what the original's makes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelbuild.checks.sidecar import check, has_sidecar
from modelbuild.checks.subject import Subject
from modelbuild.errors import ExportError
from modelbuild.model_files import PREPROCESSOR_CONFIG
from modelbuild.report import Check
from modelbuild.spectrograms import spectrogram

_SECONDS = 0.7


def examine(subject: Subject) -> Iterator[Check]:
    """Nothing for a graph that takes no sound, or where no such file was asked for or could be."""
    taken = {value.name: value for value in subject.interface.inputs}.get("input_features")
    if taken is None or not has_sidecar(subject) or subject.source is None:
        return
    yield check("feature extractor", "a spectrogram with the graph's input and the original's", _faults(subject))


def _faults(subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    seed = subject.spec.validation.seed
    try:
        ours, theirs = (spectrogram(folder, _SECONDS, seed) for folder in (subject.sidecar, subject.source))
    except ExportError as error:
        yield error.problems[0].what
        return
    (taken,) = (value.shape for value in subject.interface.inputs if value.name == "input_features")
    if ours.shape[1:] != taken[1:]:
        yield f"{PREPROCESSOR_CONFIG}: it makes {ours.shape[1:]} of any sound, and the graph takes {taken[1:]}"
    if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
        yield f"{PREPROCESSOR_CONFIG}: its spectrogram is not the one that the original's makes"
