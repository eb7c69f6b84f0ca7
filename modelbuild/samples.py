"""Seeded inputs for a graph, by its interface: token ids under masks, images, caches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.masks import MASKS, applies, attention_mask

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs by name for a graph with this `interface`, and the kind they are of, for reports (`left padding`)."""

    kind: str
    interface: Interface
    inputs: dict[str, Array]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of every symbolic axis of the inputs."""
        return {
            axis: size
            for value in self.interface.inputs
            for axis, size in zip(value.shape, self.inputs[value.name].shape, strict=True)
            if isinstance(axis, str)
        }

    @property
    def label(self) -> str:
        """Kind and size: `left padding 3x7`; with 5 positions in a cache, `left padding 3x7 after 5`."""
        sizes = [str(self.sizes[axis.name]) for axis in self.interface.axes if axis.name in self.sizes and _own(axis)]
        past = [f" after {self.sizes[axis.name]}" for axis in self.interface.axes_of("past")]
        return f"{self.kind} {'x'.join(sizes)}{''.join(past)}"

    @property
    def positions(self) -> int:
        """The number of positions that are computed, valid or not."""
        lengths = [self.sizes.get(axis.name, 1) for axis in self.interface.axes_of("length")]
        return max(self._rows, default=1) * max(lengths, default=1)

    @property
    def rows(self) -> int:
        """The number of rows; where there are several kinds, of which there are as many of each."""
        return min(self._rows, default=1)

    @property
    def _rows(self) -> tuple[int, ...]:
        return tuple(self.sizes[axis.name] for axis in self.interface.axes_of("batch") if axis.name in self.sizes)

    @cached_property
    def masks(self) -> dict[str, Bools]:
        """For axes that have a mask of their own, `(batch, size)`: which positions are no padding."""
        found: dict[str, Bools] = {}
        for value in self.interface.inputs:
            if value.content == "attention_mask" and len(value.shape) == 2:
                mask, name = self.inputs[value.name].astype(bool), str(value.shape[1])
                found[name] = mask
                start = 0
                for part in self.interface.axis(name).parts:
                    found[part] = mask[:, start : start + self.sizes[part]]
                    start += self.sizes[part]
        return found

    @cached_property
    def valid_rows(self) -> dict[str, Bools]:
        """For each axis of rows, `(rows,)`: those that have something that is no padding, for each of their choices if
        there are any.
        """
        batches = [axis.name for axis in self.interface.axes_of("batch") if axis.name in self.sizes]
        found = {name: np.ones(self.sizes[name], dtype=bool) for name in batches}
        for value in self.interface.inputs:
            if value.content == "attention_mask":
                rows = found[str(value.shape[0])]
                rows &= self.inputs[value.name].astype(bool).any(axis=-1).reshape(len(rows), -1).all(axis=1)
        return found

    def placed(self, output: Output, array: Array) -> tuple[Array, Bools]:
        """`array`, which is that output, with its rows on the first axis and its positions on the second, and where it
        means anything: `(batch, position)`, or `(batch,)` where it has no positions. Rows of another kind on a later
        axis count as positions.
        """
        if array.dtype == np.bool_:
            array = array.astype(np.int8)  # a difference of truths is not defined
        axes = list(output.shape)
        first = next((place for place, name in enumerate(axes) if name in self.valid_rows), None)
        if first is None:
            return array[None], np.ones(1, dtype=bool)
        array, rows = np.moveaxis(array, first, 0), self.valid_rows[str(axes.pop(first))]
        for place, name in enumerate(axes, start=1):
            if array.ndim <= place or not isinstance(name, str):
                continue
            if name in self.valid_rows:
                return np.moveaxis(array, place, 1), rows[:, None] & self.valid_rows[name]
            if self.interface.axis(name).kind in ("length", "sum"):
                mask = self.masks.get(name, np.ones((len(rows), array.shape[place]), dtype=bool))
                return np.moveaxis(array, place, 1), mask & rows[:, None]
        return array, rows

    def row(self, number: int) -> Batch:
        """The same inputs with one row alone, of each axis of rows."""
        one, whole = slice(number, number + 1), slice(None)
        chosen = {
            value.name: self.inputs[value.name][
                (*(one if axis in self.valid_rows else whole for axis in value.shape), ...)  # a scalar stays an array
            ]
            for value in self.interface.inputs
        }
        return Batch(kind=self.kind, interface=self.interface, inputs=chosen)

    def without_padding(self) -> Batch | None:
        """The same with nothing masked, or None where nothing is."""
        masks = [value.name for value in self.interface.inputs if value.content == "attention_mask"]
        if all(self.inputs[name].all() for name in masks):
            return None
        ones = {name: np.ones_like(self.inputs[name]) for name in masks}
        return sample(self.interface, self.sizes, mask="ones", rng=np.random.default_rng(0), given=self.inputs | ones)


def _own(axis: Axis) -> bool:
    return axis.kind in ("batch", "length", "extent")


def sample(
    interface: Interface,
    sizes: Mapping[str, int],
    *,
    mask: str,
    rng: np.random.Generator,
    given: Mapping[str, Array] | None = None,
    kind: str | None = None,
) -> Batch:
    """A batch with axes of these sizes, random but for what is `given`, under masks of kind `mask`, one of MASKS.

    Positions are counted from the mask, as generation does: from 0 at the first token of each row.
    """
    full = dict(sizes)
    for axis in interface.axes_of("sum"):
        full[axis.name] = sum(full[part] for part in axis.parts)
    arrays: dict[str, Array] = dict(given or {})
    for value in interface.inputs:
        if value.name not in arrays and value.content != "position_ids":
            shape = tuple(axis if isinstance(axis, int) else full[axis] for axis in value.shape)
            arrays[value.name] = _content(value, shape, mask, rng)
    for value in interface.inputs:
        if value.ends is not None and value.name not in (given or {}):
            _end_rows(value, arrays, interface)
    for value in interface.inputs:
        if value.content == "position_ids":
            arrays[value.name] = _positions(interface, value, arrays, full)
    inputs = {value.name: arrays[value.name] for value in interface.inputs}
    masked = interface.content("attention_mask") is not None
    return Batch(kind=kind or MASKS[mask if masked else "ones"], interface=interface, inputs=inputs)


def _content(value: Input, shape: tuple[int, ...], mask: str, rng: np.random.Generator) -> Array:
    if value.between:
        return _between(value.between, shape, np.dtype(value.dtype), rng)
    match value.content:
        case "attention_mask":
            rows, positions = math.prod(shape[:-1]), shape[-1]
            fitting = mask if applies(mask, batch=rows, sequence=positions) else "ones"
            return attention_mask((rows, positions), fitting, rng).reshape(shape).astype(value.dtype)
        case "token_ids" | "token_type_ids" | "indices":
            return rng.integers(0, value.below, shape).astype(value.dtype)
        case "flags":
            return np.asarray(rng.random(shape) < 0.5).astype(value.dtype)
        case _:
            return rng.standard_normal(shape).astype(value.dtype)


def _end_rows(value: Input, arrays: Mapping[str, Array], interface: Interface) -> None:
    """Put the last id of each row where the row's tokens end, and nowhere else."""
    ids, mask = arrays[value.name], interface.content("attention_mask")
    ids[ids == value.ends] = (value.ends or value.below) - 1
    valid = arrays[mask.name].astype(bool) if mask else np.ones(ids.shape, dtype=bool)
    last = ids.shape[1] - 1 - valid[:, ::-1].argmax(axis=1)
    ids[np.arange(len(ids)), last] = value.ends


def _between(bounds: tuple[float, float], shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    """Numbers between two, whole ones with both of them."""
    lowest, highest = bounds
    if np.issubdtype(dtype, np.floating):
        return rng.uniform(lowest, highest, shape).astype(dtype)
    return rng.integers(int(lowest), int(highest), shape, endpoint=True).astype(dtype)


def _positions(interface: Interface, value: Input, arrays: Mapping[str, Array], sizes: Mapping[str, int]) -> Array:
    """The position of each new token by the mask: how many are no padding before it, `(batch, new)`."""
    mask = next(item.name for item in interface.inputs if item.content == "attention_mask")
    new = sizes[str(value.shape[1])]
    positions = np.maximum(np.cumsum(arrays[mask], axis=1) - 1, 0)
    return np.ascontiguousarray(positions[:, positions.shape[1] - new :], dtype=value.dtype)
