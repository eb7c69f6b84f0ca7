"""Weights in few bits, with a scale for the tensor, for each channel or for each block. Pure numpy.

Rounding is arithmetic, so that the result is no original's bits. It is accepted where every element is within half a
step of the original: |original - (quantized - zero point) * scale| <= 0.501 * scale. The thousandth is for the rounding
of the arithmetic itself. Where what a layer reads is multiplied by a constant for each channel, its weights may be
divided by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modelbuild.weights.tensors import Array, Difference, Original, sample_of

Floats = npt.NDArray[np.float32]

_HALF = 0.501
_ALIKE = 0.9
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A tensor as the numbers that it stands for, and beside each the step between it and the next."""

    values: Floats
    steps: Floats

    def times(self, rows: Floats) -> Grid:
        """With each row multiplied by a number of its own."""
        return Grid(values=self.values * rows[:, None], steps=self.steps * np.abs(rows)[:, None])

    def columns(self, start: int, count: int) -> Grid:
        """Some of its columns."""
        part = slice(start, start + count)
        return Grid(values=self.values[:, part], steps=self.steps[:, part])


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """A quantized tensor of a graph. `parts` are the names of the tensors that it is made of: numbers, scales and zero
    points. `smoothing` is the name of the constant that what its layer reads is multiplied by, if there is one, and its
    values; `belongs` are the names of the originals one of which has its place, where that is known.
    """

    name: str
    shape: tuple[int, ...]
    parts: frozenset[str]
    read: Callable[[], Grid]
    smoothing: tuple[str, Floats] | None = None
    belongs: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Which originals a quantized tensor was made of, whether smoothing is part of that, and where it is not what they
    say.
    """

    originals: tuple[Original, ...]
    difference: Difference
    smoothed: bool = False


def unround(tensor: Quantized, originals: Sequence[Original]) -> Rounded | None:
    """What a quantized tensor was made of: one original, as it is or transposed, or several side by side. None where
    they are none that it resembles.
    """
    grid = tensor.read()
    found = _explained(grid, originals)
    if tensor.smoothing is not None and (found is None or found.difference.count):
        smooth = _explained(grid.times(tensor.smoothing[1]), originals, smoothed=True)
        if found is None or (smooth is not None and smooth.difference.count < found.difference.count):
            found = smooth
    return _in_place(tensor, found) if found is not None else None


def _in_place(tensor: Quantized, found: Rounded) -> Rounded:
    """What was found, and that it belongs elsewhere, where that is known."""
    names = {name for original in found.originals for name in original.names}
    if not tensor.belongs or len(found.originals) > 1 or names & tensor.belongs:
        return found
    where = f"{found.originals[0].names[0]} is in the place of {min(tensor.belongs)}"
    return Rounded(
        originals=found.originals,
        difference=Difference(count=int(np.prod(tensor.shape)), where=where),
        smoothed=found.smoothed,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Form:
    """An original in one orientation."""

    original: Original
    transposed: bool

    @cached_property
    def values(self) -> Array:
        return self.original.values.T if self.transposed else self.original.values

    def beside(self, grid: Grid) -> tuple[Array, Array, Array]:
        """A sample of it, of what is there in a grid that begins with it, and of the steps there."""
        at = np.unravel_index(sample_of(self.original.values.size), self.values.shape)
        mine, steps = grid.values[at], grid.steps[at]
        return self.values[at], mine, steps


def _explained(grid: Grid, originals: Sequence[Original], *, smoothed: bool = False) -> Rounded | None:
    forms = [form for original in originals for form in _forms(original)]
    pieces: list[_Form] = []
    differences: list[Difference] = []
    done, columns = 0, grid.values.shape[1]
    while done < columns:
        rest = grid.columns(done, columns - done)
        form = _nearest(rest, [form for form in forms if _fits(form, rest)])
        if form is None:
            return None
        pieces.append(form)
        differences.append(_difference(form, rest.columns(0, form.values.shape[1])))
        done += form.values.shape[1]
    wrong = [difference for difference in differences if difference.count]
    total = Difference(count=sum(item.count for item in wrong), where=wrong[0].where if wrong else "")
    return Rounded(originals=tuple(piece.original for piece in pieces), difference=total, smoothed=smoothed)


def _forms(original: Original) -> Iterator[_Form]:
    values = original.values
    if values.ndim == 2 and values.dtype == np.float32:
        yield from (_Form(original=original, transposed=turned) for turned in (False, True))


def _fits(form: _Form, grid: Grid) -> bool:
    rows, columns = form.values.shape
    return bool(rows == grid.values.shape[0] and columns <= grid.values.shape[1])


def _nearest(grid: Grid, forms: Sequence[_Form]) -> _Form | None:
    """The form that most of a sample is within half a step of, if that is half of it; else the one most alike."""
    shares = []
    for form in forms:
        theirs, mine, steps = form.beside(grid)
        inside = float((np.abs(theirs - mine) <= _HALF * steps).mean())
        shares.append((inside, likeness(theirs, mine), form.original.values.size, form))
    best = max(shares, key=lambda item: item[:3], default=None)
    if best is None or best[0] >= 0.5:
        return best[3] if best else None
    alike = max(shares, key=lambda item: item[1])
    return alike[3] if alike[1] > _ALIKE else None


def likeness(theirs: Array, mine: Array) -> float:
    """The correlation of two samples: 1 for a multiple, about 0 for what has nothing to do with it."""
    wide, other = (sample.astype(np.float64) - float(sample.mean(dtype=np.float64)) for sample in (theirs, mine))
    return float((wide * other).sum() / max(float(np.sqrt((wide**2).sum() * (other**2).sum())), _TINY))


def _difference(form: _Form, grid: Grid) -> Difference:
    wrong = ~(np.abs(form.values - grid.values) <= _HALF * grid.steps)
    count = int(np.count_nonzero(wrong))
    if not count:
        return Difference(count=0, where="")
    at = tuple(int(index) for index in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    flat = int(np.ravel_multi_index(at[::-1] if form.transposed else at, form.original.values.shape))
    step = f"where half a step is {grid.steps[at] / 2!s}"
    return Difference(count=count, where=f"{form.original.differs(flat, grid.values[at])}, {step}")


def affine(numbers: Array, scales: Array, zeros: Array | None, axis: int = 1, block: int = 0) -> Grid:
    """A tensor that is (number - zero point) * scale, with one of each for it all, for each index along `axis`, or for
    each `block` along it.
    """
    steps = _spread(scales.astype(np.float32), numbers.shape, axis, block)
    shift = np.float32(0) if zeros is None else _spread(zeros.astype(np.float32), numbers.shape, axis, block)
    return Grid(values=(numbers.astype(np.float32) - shift) * steps, steps=np.abs(steps))


def _spread(values: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    if block:
        return np.repeat(values, block, axis=axis)[tuple(slice(size) for size in shape)]
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), shape)
    along = [1] * len(shape)
    along[axis] = values.size
    return np.broadcast_to(values.reshape(along), shape)


def blocks(packed: Array, scales: Array, zeros: Array | None, rows: int, bits: int) -> Grid:
    """The matrix of a MatMulNBits: for each output and block numbers of `bits` bits, the lowest bits first, a scale,
    and a zero point, which is the middle where there are none. It has `rows` inputs.
    """
    numbers = _unpacked(packed, bits)
    outputs, count, _ = numbers.shape
    step = scales.reshape(outputs, count, 1).astype(np.float32)
    if zeros is None:
        middle: Array = np.float32(2 ** (bits - 1)) * np.ones((outputs, count), np.float32)
    elif zeros.dtype == np.uint8:
        middle = _unpacked(zeros.reshape(outputs, -1), bits)[:, :count]
    else:
        middle = zeros.reshape(outputs, count)
    values = (numbers.astype(np.float32) - middle[..., None].astype(np.float32)) * step
    steps = np.broadcast_to(np.abs(step), values.shape)
    flat = (part.reshape(outputs, -1)[:, :rows].T for part in (values, steps))
    return Grid(values=next(flat), steps=next(flat))


def _unpacked(packed: Array, bits: int) -> Array:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return parts.reshape(*packed.shape[:-1], -1)
