"""Tensors by their bits: what the original has, and where two of them differ. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.weights.rounding import narrowed

Array = npt.NDArray[Any]
_SAMPLED = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A tensor of the original under all its names: tied parameters, and others that hold the same, are one.

    `exact` is what it was before it was rounded to 16 bits, or None where it was not.
    """

    names: tuple[str, ...]
    values: Array
    exact: Original | None = None

    def uniform(self) -> bool:
        """Whether all its elements are one value, like a bias that was never trained."""
        return uniform(self.values)

    def at(self, flat: int) -> str:
        """An element by its name and index, from its position in memory order: `encoder.weight[3, 7]`."""
        return element(self.names[0], self.values.shape, flat)

    def differs(self, flat: int, here: np.generic) -> str:
        """That an element is another in the graph, in words, with both values to the last bit."""
        rounded = f", rounded to {self.values.dtype.name}," if self.exact else ""
        return f"{self.at(flat)} is {self.values.reshape(-1)[flat]!s} in PyTorch{rounded} and {here!s} here"

    def rounded(self, dtype: np.dtype[Any]) -> Original:
        """It in a dtype of 16 bits."""
        return Original(names=self.names, values=narrowed(self.values, dtype), exact=self)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How many elements differ, and the first of them in words."""

    count: int
    where: str


def distinct(tensors: Mapping[str, Array]) -> tuple[Original, ...]:
    """The tensors by content, in the order of their first names. Scalars and empty tensors identify nothing."""
    groups: dict[tuple[object, ...], list[tuple[list[str], Array]]] = {}
    for name, tensor in tensors.items():
        values = np.ascontiguousarray(tensor)
        if values.size < 2:
            continue
        alike = groups.setdefault((values.shape, values.dtype, sampled(values).tobytes()), [])
        twin = next((names for names, other in alike if np.array_equal(bits(values), bits(other))), None)
        if twin is None:
            alike.append(([name], values))
        else:
            twin.append(name)
    return tuple(Original(names=tuple(names), values=values) for alike in groups.values() for names, values in alike)


def bits(values: Array) -> Array:
    """The same memory as unsigned integers: 0.0 and -0.0 differ, and a NaN equals itself."""
    return values.view(f"u{values.dtype.itemsize}")


def sample_of(size: int) -> npt.NDArray[np.int64]:
    """Positions to look at first in a tensor of `size` elements, the same each time, in no pattern; all of a small
    one.
    """
    if size <= _SAMPLED:
        return np.arange(size)
    return np.sort(np.random.default_rng(size).choice(size, _SAMPLED, replace=False, shuffle=False))


def sampled(values: Array, *, transposed: bool = False) -> Array:
    """The bits of `values` at the positions of the sample, in memory order, or in that of its transpose."""
    positions = sample_of(values.size)
    if transposed:
        row, column = np.divmod(positions, values.shape[0])
        return np.asarray(bits(values)[column, row])
    return np.asarray(bits(values).reshape(-1)[positions])


def uniform(values: Array) -> bool:
    """Whether all elements have the bits of the first."""
    flat = bits(values).reshape(-1)
    return bool(flat[-1] == flat[0] and (flat == flat[0]).all())


def element(name: str, shape: tuple[int, ...], flat: int) -> str:
    """`name[3, 7]` for the element at position `flat` in memory order."""
    return f"{name}[{', '.join(str(index) for index in np.unravel_index(flat, shape))}]"
