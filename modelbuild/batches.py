"""The batches that a graph is tried with: every size with masks of every kind, and every row of every table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from modelbuild.interface import Interface
from modelbuild.masks import applies
from modelbuild.samples import Batch, sample
from modelbuild.sizes import EXTENTS, allowed, largest, longest, typical_sizes

TEXTS = (
    "The harbour was quiet.",
    "Nobody expected the second train to arrive before the first one, least of all the station master.",
    "7 of 9 samples (78 %) passed!",
    "Über naïve façades, in Zürich & São Paulo.",
    "A short one, then",
    "Rain fell on the terraces all night; by morning the lower road, which should have been raised, was gone.",
)


def covering_batches(
    interface: Interface, *, seed: int, tokens: int | None = None, rows_at_once: int = 4
) -> Iterator[Batch]:
    """Batches that together look up every row of every embedding table: tokens, positions and token types, in rows of
    the largest length. None for a graph that takes no tokens.

    With `tokens`, so many rows of the token table, drawn by `seed`, and every row of the other two.
    """
    ids, types = interface.content("token_ids"), interface.content("token_type_ids")
    if ids is None:
        return
    rng = np.random.default_rng(seed)
    sequence = largest(interface, interface.axis(str(ids.shape[1])))
    rows_axis = interface.axis(str(ids.shape[0]))
    chosen = rng.permutation(ids.below)[:tokens]
    columns = sequence - (ids.ends is not None)
    rows, at_once = max(-(-len(chosen) // columns), rows_axis.smallest), allowed(rows_axis, rows_at_once)
    table = np.resize(chosen, (rows, columns)).astype(ids.dtype)
    if ids.ends is not None:
        table = np.pad(np.where(table == ids.ends, chosen[0], table), ((0, 0), (0, 1)), constant_values=ids.ends)
    given = {ids.name: table}
    if types:
        given[types.name] = np.resize(np.arange(types.below), (rows, sequence)).astype(types.dtype)
    for start in range(0, rows, at_once):
        first = min(start, rows - rows_axis.smallest)  # the last part may not be too small
        part = {name: array[first : first + at_once] for name, array in given.items()}
        sizes = typical_sizes(interface, batch=len(part[ids.name]), length=3) | {str(ids.shape[1]): sequence}
        yield sample(interface, sizes, mask="ones", rng=rng, given=part, kind="embeddings")


def random_batches(
    interface: Interface,
    *,
    batches: Sequence[int],
    sequences: Sequence[int],
    masks: Sequence[str],
    seed: int,
    per_size: int | None = None,
) -> Iterator[Batch]:
    """A batch for every combination of size, length (as far as the model takes them) and mask, the same for the same
    seed. The cache, where there is one, holds nothing, one position and so many in turn; other axes change with them.

    With `per_size`, no more than so many masks at each size, chosen in turn, so that every mask meets many sizes and
    lengths without meeting all of their combinations.
    """
    rng = np.random.default_rng(seed)
    lengths = sorted({min(length, longest(interface)) for length in sequences})
    if not interface.axes_of("length"):
        lengths = [1] * (len(EXTENTS) if interface.axes_of("extent") else 1)
    pasts = [0, 1, *lengths] if interface.axes_of("past") else [0]
    for (row, batch), (column, length) in itertools.product(enumerate(_apart(interface, batches)), enumerate(lengths)):
        turn = row * len(lengths) + column
        sizes = typical_sizes(interface, batch=batch, length=length, past=pasts[turn % len(pasts)], turn=turn)
        masked = interface.content("attention_mask")
        rows = sizes.get(str(masked.shape[0]), batch) if masked else batch
        kinds = [mask for mask in masks if masked and applies(mask, batch=rows, sequence=_masked(interface, sizes))]
        kinds = kinds or ["ones"]
        for mask in _in_turn(kinds, per_size, row + column) if per_size else kinds:
            yield sample(interface, sizes, mask=mask, rng=rng)


def _apart(interface: Interface, batches: Sequence[int]) -> list[int]:
    """Those of the sizes that are not the same as one before where rows are limited."""
    rows = interface.axes_of("batch")
    found: dict[tuple[int, ...], int] = {}
    for number, batch in enumerate(batches):
        found.setdefault(tuple(allowed(axis, batch) for axis in rows) or (number,), batch)
    return list(found.values())


def _masked(interface: Interface, sizes: Mapping[str, int]) -> int:
    """The size of the axis that the mask is for."""
    mask = interface.content("attention_mask")
    axis = interface.axis(str(mask.shape[-1])) if mask else None
    return 0 if axis is None else sum(sizes[part] for part in axis.parts or (axis.name,))


def _in_turn(masks: Sequence[str], count: int, start: int) -> list[str]:
    """`count` of the masks, evenly spread, beginning with number `start`."""
    count = min(count, len(masks))
    return [masks[(start + turn * len(masks) // count) % len(masks)] for turn in range(count)]
