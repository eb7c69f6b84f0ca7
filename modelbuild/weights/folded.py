"""A batch normalization by stored statistics that was multiplied into the convolution before it. Pure numpy.

Folding is arithmetic, so that its result is no original's bits. It is accepted where every element is what the original
and the normalization say, to the last few bits of its own precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelbuild.weights.rounding import epsilon
from modelbuild.weights.tensors import Array, Difference, Original, element, uniform

Doubles = npt.NDArray[np.float64]

# How far the result may be off, in units of the precision: a square root, a quotient, a product and a sum.
_ROUNDINGS = 8
# How many elements of a channel tell which normalization it was multiplied with, and how near their ratio must be.
_TELLING, _NEAR = 16, 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """`x * scale + shift` for each channel. `scales` are the names of what the first is made of, `shifts` of the second
    beside them; `size` is how large the terms are that the shift is the sum of.
    """

    name: str
    scales: tuple[str, ...]
    shifts: tuple[str, ...]
    scale: Doubles
    shift: Doubles
    size: Doubles


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The names of what a tensor is made of, and where it is not what they say."""

    names: tuple[str, ...]
    difference: Difference


def norm(name: str, stored: Sequence[Array], epsilon: float) -> Norm:
    """The batch normalization `name`, by its `stored` weight, bias, mean and variance."""
    gamma, beta, average, spread = (array.astype(np.float64) for array in stored)
    scale = gamma / np.sqrt(spread + epsilon)
    return Norm(
        name=name,
        scales=(f"{name}.weight", f"{name}.running_var"),
        shifts=(f"{name}.bias", f"{name}.running_mean"),
        scale=scale,
        shift=beta - average * scale,
        size=np.abs(beta) + np.abs(average * scale),
    )


def unfold(tensor: Array, originals: Sequence[Original], norms: Sequence[Norm]) -> Folded | None:
    """What `tensor` was folded from: weights among `originals`, which have its size, or biases, with one of `norms`.

    None where less than half of its elements are what any of them say.
    """
    if tensor.ndim == 0 or tensor.size < 2 or uniform(tensor):
        return None
    fitting = [item for item in norms if len(item.scale) == tensor.shape[0]]
    options = _weights(tensor, originals, fitting) if tensor.ndim > 1 else _biases(tensor, originals, fitting)
    found = min(options, key=lambda item: item.difference.count, default=None)
    return found if found and found.difference.count * 2 <= tensor.size else None


def _weights(tensor: Array, originals: Sequence[Original], norms: Sequence[Norm]) -> Iterator[Folded]:
    for original in originals:
        if original.values.shape == tensor.shape and norms:
            ratios = _ratios(tensor, original.values)
            apart = [_apart(ratios, item.scale) for item in norms]
            nearest = norms[int(np.argmin(apart))]
            if min(apart) < max(_NEAR, epsilon(tensor.dtype)):
                channels = nearest.scale.reshape(-1, *[1] * (tensor.ndim - 1))
                expected = original.values.astype(np.float64) * channels
                yield _folded(tensor, expected, np.abs(expected), (original.names[0], *nearest.scales), nearest)


def _apart(ratios: Doubles, scale: Doubles) -> float:
    """How far ratios are from a scale, as a share of it. A channel that the scale takes away says nothing."""
    there = scale != 0
    return float(np.median(np.abs(ratios[there] / scale[there] - 1))) if there.any() else np.inf


def _ratios(tensor: Array, original: Array) -> Doubles:
    """What each channel was multiplied with, by its first few elements."""
    mine, theirs = (array.reshape(len(array), -1)[:, :_TELLING].astype(np.float64) for array in (tensor, original))
    known = np.where(theirs == 0, np.nan, theirs)
    with np.errstate(all="ignore"):
        ratios = np.median(np.nan_to_num(mine / known), axis=1)
    return np.asarray(ratios)


def _biases(tensor: Array, originals: Sequence[Original], norms: Sequence[Norm]) -> Iterator[Folded]:
    for item in norms:
        yield _folded(tensor, item.shift, item.size, item.shifts, item)
        for original in originals:
            if original.values.shape == tensor.shape:
                own = original.values.astype(np.float64) * item.scale
                yield _folded(
                    tensor, item.shift + own, item.size + np.abs(own), (original.names[0], *item.shifts), item
                )


def _folded(tensor: Array, expected: Doubles, size: Doubles, names: tuple[str, ...], item: Norm) -> Folded:
    allowed = _ROUNDINGS * float(np.finfo(np.float32).eps) * size
    if tensor.dtype.itemsize == 2:  # folded in fp32, and rounded then
        allowed = allowed + epsilon(tensor.dtype) / 2 * np.abs(expected)
    wrong = ~(np.abs(tensor.astype(np.float64) - expected) <= allowed)
    count, where = int(np.count_nonzero(wrong)), ""
    if count:
        flat = int(np.argmax(wrong))
        at = element(names[0], tensor.shape, flat)
        theirs, mine = expected.reshape(-1)[flat].astype(tensor.dtype), tensor.reshape(-1)[flat]
        where = f"{at} with {item.name} folded in is {theirs!s} in PyTorch and {mine!s} here"
    return Folded(names=names, difference=Difference(count=count, where=where))
