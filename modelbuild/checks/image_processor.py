"""The image processor that ships, against the model and the original's image processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelbuild.checks.sidecar import check, has_sidecar, read_object, show
from modelbuild.checks.subject import Subject
from modelbuild.errors import ExportError, PackageError
from modelbuild.golden_image import FILE_NAME, Processed, golden_image, read_golden_image
from modelbuild.interface import Input
from modelbuild.model_files import PREPROCESSOR_CONFIG
from modelbuild.report import Check

_PER_CHANNEL = ("image_mean", "image_std")


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with the image processor; nothing where the task has none, or none was asked for.

    Nothing either for a model from no files, which has none.
    """
    takes = next((value for value in subject.interface.inputs if value.name == "pixel_values"), None)
    if takes is None or "image_processor" not in subject.task.preprocessors or not has_sidecar(subject):
        return
    given = subject.sidecar / PREPROCESSOR_CONFIG
    if subject.source is None and not given.exists():
        return
    settings, fault = read_object(given)
    try:
        shipped: tuple[Processed, ...] = () if fault else golden_image(subject.sidecar)
    except ExportError as error:
        shipped, fault = (), error.problems[0].what
    channels = [*_channels(settings, takes), *_other_channels(shipped, takes)]
    unusable = [fault] if fault and not channels else []
    yield check("image processor present", "a processor that opens and takes images", unusable)
    if unusable:
        return
    yield check("image processor channels", "mean, deviation and result with the graph's channels", channels)
    if not shipped:
        return
    yield check("image processor size", "height and width of its results with the graph's", _sizes(shipped, takes))
    yield check("image processor parity", f"{len(shipped)} images with the original's", _parity(subject, shipped))


def _channels(settings: Mapping[str, Any], takes: Input) -> Iterator[str]:
    wanted = takes.shape[1]
    for key in _PER_CHANNEL:
        values = settings.get(key)
        if isinstance(values, list) and len(values) != wanted:
            yield f"{PREPROCESSOR_CONFIG} {key}: {show(values)} is for {len(values)} channels, the graph takes {wanted}"


def _other_channels(shipped: Sequence[Processed], takes: Input) -> Iterator[str]:
    for processed in shipped:
        if processed.shape[0] != takes.shape[1]:
            yield f"{processed.image}: {processed.shape[0]} channels, the graph takes {takes.shape[1]}"


def _sizes(shipped: Sequence[Processed], takes: Input) -> Iterator[str]:
    """Where the graph takes any size, any will do."""
    wanted = takes.shape[2:]
    for processed in shipped:
        pairs = zip(processed.shape[1:], wanted, strict=True)
        if any(isinstance(size, int) and size != made for made, size in pairs):
            made = "x".join(map(str, processed.shape[1:]))
            yield f"{processed.image} becomes {made}, the graph takes {'x'.join(map(str, wanted))}"


def _parity(subject: Subject, shipped: Sequence[Processed]) -> Iterator[str]:
    try:
        golden = read_golden_image(subject.sidecar)
        if subject.source and golden_image(subject.source) != golden:
            yield f"{FILE_NAME} is not what the original's image processor makes of its images"
            return
    except (PackageError, ExportError) as error:
        yield error.problems[0].what
        return
    if [processed.image for processed in golden] != [processed.image for processed in shipped]:
        yield f"{FILE_NAME}: other images than those that were compared"
        return
    for ours, theirs in zip(shipped, golden, strict=True):
        if ours != theirs:
            yield f"{ours.image}: {_said(ours)}, the original's is {_said(theirs)}"


def _said(processed: Processed) -> str:
    shape = "x".join(map(str, processed.shape))
    return f"{shape} from {processed.least:g} to {processed.most:g}, {processed.mean:g} on average"
