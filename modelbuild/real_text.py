"""Real sentences as a graph takes them, through the tokenizer that it ships with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modelbuild.interface import Interface
from modelbuild.samples import Batch, sample
from modelbuild.sizes import allowed, largest, typical_sizes
from modelbuild.tasks import TEXT_INPUTS
from modelbuild.tokenizer import tokenize

# Text is cut here: real sentences are for real token statistics; long inputs are random.
_TEXT_LENGTH = 64
_ROWS = 8
# The kind of these batches, in reports.
TEXT = "real text"


def takes_text(interface: Interface) -> bool:
    """Whether what a tokenizer makes of texts, `(batch, sequence)`, can be given to the graph."""
    ids = interface.content("token_ids")
    return (
        ids is not None
        and ids.name in TEXT_INPUTS
        and [interface.axis(str(axis)).kind for axis in ids.shape] == ["batch", "length"]
    )


def text_batch(
    tokenizer_folder: Path, interface: Interface, texts: Sequence[str], *, padding_side: str | None, kind: str
) -> Batch:
    """The texts in one batch, padded on that side (None: the tokenizer's own), with nothing in the cache."""
    ids = interface.content("token_ids")
    assert ids is not None  # it takes text
    axis = interface.axis(str(ids.shape[1]))
    names = [name for name in TEXT_INPUTS if name in interface.input_names()]
    length = min(_TEXT_LENGTH, largest(interface, axis))
    arrays = tokenize(tokenizer_folder, texts, names, padding_side=padding_side, max_length=length)
    rows, columns = arrays[ids.name].shape
    sizes = typical_sizes(interface, batch=rows, length=columns) | {axis.name: columns}
    return sample(interface, sizes, mask="ones", rng=np.random.default_rng(0), given=arrays, kind=kind)


def real_batches(
    tokenizer_folder: Path, interface: Interface, texts: Sequence[str], *, rows: int = _ROWS
) -> list[Batch]:
    """All of `texts` in batches of up to `rows`, those of like length together, padded as the tokenizer pads, and cut
    where the model or 64 tokens end. None for a graph that takes no text.

    Raises ExportError when the tokenizer cannot be read.
    """
    if not takes_text(interface):
        return []
    at_once = min(allowed(axis, rows) for axis in interface.axes_of("batch"))
    ordered = sorted(texts, key=len)
    return [
        text_batch(tokenizer_folder, interface, ordered[start : start + at_once], padding_side=None, kind=TEXT)
        for start in range(0, len(ordered), at_once)
    ]
