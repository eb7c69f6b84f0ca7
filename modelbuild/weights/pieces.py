"""A tensor that was put together from vectors of others: packed, sliced, interleaved per head. Pure numpy.

Vectors that occur once in the original are found by a key. They say which run of which tensor a stretch of the graph's
tensor is; then every element of the stretch is compared, bit by bit. A key decides nothing alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelbuild.weights.tensors import Array, Difference, Original, bits, element

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """Which originals a tensor was put together from, in its own order, and where it is not what they say."""

    originals: tuple[Original, ...]
    difference: Difference


@dataclass(frozen=True, kw_only=True, eq=False)
class _Source:
    """An original as vectors: its rows, or its columns."""

    original: Original
    vectors: Array
    columns: bool

    def flat(self, position: int, item: int) -> int:
        """Where an element of a vector is in the original's memory order."""
        count, length = self.vectors.shape
        return item * int(count) + position if self.columns else position * int(length) + item


@dataclass(frozen=True, kw_only=True, eq=False)
class _Vectors:
    """The vectors of one length in the original, by sorted key: an index into `sources`, and the position there."""

    keys: Array
    source: Ints
    position: Ints
    single: npt.NDArray[np.bool_]
    sources: tuple[_Source, ...]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Vectors `first` to `last` of a tensor are those of `source` at `offset` less."""

    source: int
    offset: int
    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def before(self, other: _Run) -> bool:
        """Whether it ends before the other does begin, in the original too."""
        return self.last < other.first and self.last - self.offset < other.first - other.offset


@dataclass(kw_only=True, eq=False)
class VectorIndex:
    """The rows and columns of all originals of one dtype. A vector is a row, a 1-D tensor is one row."""

    originals: Sequence[Original]
    _known: dict[tuple[int, int, int], _Vectors] = field(default_factory=dict, init=False)

    def explain(self, tensor: Array) -> Assembly | None:
        """What `tensor` was put together from; None when less than half of it is known."""
        rows = bits(tensor).reshape(-1, tensor.shape[-1])
        for columns, vectors in ((False, rows), (True, rows.T)):
            for part in _parts(*vectors.shape):
                known = self._vectors(vectors.shape[1], part)
                found = (
                    _assembled(vectors, _row_keys(vectors[:, part]), known, tensor, columns) if known.sources else None
                )
                if found is not None:
                    return found
        return None

    def _vectors(self, length: int, part: slice) -> _Vectors:
        key = (length, part.start, part.stop)
        if key not in self._known:
            self._known[key] = _indexed(self.originals, length, part)
        return self._known[key]


def _parts(count: int, length: int) -> Iterator[slice]:
    """What to know vectors by: all of them, and then a quarter, for where one row is wrong no column is right."""
    yield slice(0, length)
    quarter = length // 4
    if quarter > 1 and count > 1:
        yield from (slice(start, start + quarter) for start in range(0, 4 * quarter, quarter))


def _assembled(vectors: Array, keys: Array, known: _Vectors, tensor: Array, columns: bool) -> Assembly | None:
    at = np.minimum(np.searchsorted(known.keys, keys), known.keys.size - 1)
    hit = known.keys[at] == keys
    ambiguous = hit & ~known.single[at]
    anchors = np.where(hit & known.single[at], known.source[at], -1)
    runs = _in_place(_runs(anchors, np.arange(len(vectors)) - known.position[at], ambiguous), known)
    # Single elements are found by chance: at least three in a row are not.
    if int(hit.sum()) * 2 < len(vectors) or max((run.length for run in runs), default=0) * vectors.shape[1] < 3:
        return None
    expected = _expected(vectors, runs, known)
    strange = np.where(hit, np.where(known.single[at], at, -1), -2)
    differences = list(_differences(vectors, expected, known, strange, tensor, columns))
    count = sum(count for count, _ in differences)
    originals = dict.fromkeys(known.sources[run.source].original for run in runs)
    difference = Difference(count=count, where=differences[0][1] if differences else "")
    return Assembly(originals=tuple(originals), difference=difference)


def _indexed(originals: Sequence[Original], length: int, part: slice) -> _Vectors:
    sources = []
    for original in originals:
        rows = bits(original.values).reshape(-1, original.values.shape[-1])
        both = (
            _Source(original=original, vectors=rows, columns=False),
            _Source(original=original, vectors=rows.T, columns=True),
        )
        sources += [source for source in both if source.vectors.shape[1] == length]
    lengths = [len(source.vectors) for source in sources]
    keys = np.concatenate([np.empty(0, np.uint64), *(_row_keys(source.vectors[:, part]) for source in sources)])
    positions = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)]).astype(np.int64)
    unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return _Vectors(
        keys=unique,
        source=np.repeat(np.arange(len(sources)), lengths)[first],
        position=positions[first],
        single=counts == 1,
        sources=tuple(sources),
    )


def _row_keys(vectors: Array) -> Array:
    """A key for every row: a sum with random odd factors, so that one changed element changes it."""
    factors = np.random.default_rng(0).integers(0, 2**64, vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    return np.asarray(np.einsum("ij,j->i", vectors, factors))


def _runs(source: Ints, offset: Ints, ambiguous: npt.NDArray[np.bool_]) -> list[_Run]:
    """Stretches between the first and last vector that agree on their source and offset, the best supported first.

    What disagrees inside a stretch is no run of its own: that is how a changed, foreign or misplaced vector shows.
    """
    index = np.flatnonzero(source >= 0)
    if not index.size:
        return []
    lines, inverse, counts = np.unique(
        np.stack([source[index], offset[index]]), axis=1, return_inverse=True, return_counts=True
    )
    first, last = np.full(len(counts), len(source)), np.full(len(counts), -1)
    np.minimum.at(first, inverse.reshape(-1), index)
    np.maximum.at(last, inverse.reshape(-1), index)
    taken = np.zeros(len(source), dtype=bool)
    runs = []
    for line in np.argsort(-counts, kind="stable"):
        start, end = int(first[line]), int(last[line])
        telling = int((~ambiguous[start : end + 1]).sum())
        if not taken[start : end + 1].any() and counts[line] * 2 >= telling:
            taken[start : end + 1] = True
            runs.append(_Run(source=int(lines[0, line]), offset=int(lines[1, line]), first=start, last=end))
    return sorted(runs, key=lambda run: run.first)


def _in_place(runs: list[_Run], known: _Vectors) -> list[_Run]:
    """The runs that are in their original's order, the longest first, of originals that are there by the better half.

    Where tensors are packed, a few vectors of another are an error. A slice of one tensor alone is none.
    """
    kept: list[_Run] = []
    for run in sorted(runs, key=lambda run: -run.length):
        if all(run.before(other) or other.before(run) for other in kept if other.source == run.source):
            kept.append(run)
    used: Counter[int] = Counter()
    for run in kept:
        used[run.source] += run.length
    return sorted(
        (run for run in kept if len(used) == 1 or used[run.source] * 2 > len(known.sources[run.source].vectors)),
        key=lambda run: run.first,
    )


def _expected(vectors: Array, runs: list[_Run], known: _Vectors) -> list[tuple[int, int] | None]:
    """For every vector the source and position it should have: its run's, or, between runs, that of the neighbour
    which it resembles more.
    """
    expected: list[tuple[int, int] | None] = [None] * len(vectors)
    for run in runs:
        for index in range(run.first, run.last + 1):
            expected[index] = (run.source, index - run.offset)
    taken = set(expected)
    for before, after in zip([None, *runs], [*runs, None], strict=True):
        for index in range(before.last + 1 if before else 0, after.first if after else len(vectors)):
            options = [(run.source, index - run.offset) for run in (before, after) if run]
            inside = [(s, at) for s, at in options if 0 <= at < len(known.sources[s].vectors) and (s, at) not in taken]
            alike = [int((known.sources[s].vectors[at] == vectors[index]).sum()) for s, at in inside]
            expected[index] = inside[int(np.argmax(alike))] if inside else None
    return expected


def _differences(
    vectors: Array,
    expected: list[tuple[int, int] | None],
    known: _Vectors,
    found: Ints,
    tensor: Array,
    columns: bool,
) -> Iterator[tuple[int, str]]:
    """For each vector that is wrong, how many of its elements are, and in words the first of them.

    `found` is where a vector is among the known ones, -1 if it is so several times and -2 if it is not. Zeros are
    padding.
    """
    length = vectors.shape[1]
    for index, origin in enumerate(expected):
        if origin is not None:
            source, position = known.sources[origin[0]], origin[1]
            wrong = np.flatnonzero(vectors[index] != source.vectors[position])
            if wrong.size:
                value = vectors[index, wrong[:1]].view(tensor.dtype)[0]
                yield wrong.size, source.original.differs(source.flat(position, int(wrong[0])), value)
        elif found[index] >= 0:
            source, position = known.sources[known.source[found[index]]], int(known.position[found[index]])
            yield length, f"{source.original.at(source.flat(position, 0))} is out of place"
        elif found[index] == -2 and vectors[index].any():
            here = element("", tensor.shape, index if columns else index * length)
            yield length, f"{here} is in no tensor of PyTorch"
