"""Inputs are checked before ONNX Runtime sees them, so that what is wrong is said in one line."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.errors import InputError, PackageError, first_line
from modelbuild.signature import Signature, TensorSpec
from modelbuild.suggest import did_you_mean

Arrays = dict[str, npt.NDArray[Any]]
# Kinds of numbers in a list, and kinds of arrays that may hold them.
_OF_A_LIST = ("ii", "iu", "ui", "uu", "if", "uf", "ff")
# What numpy calls its types, without the letters that it also takes for them.
_TYPE = re.compile(r"bool|object|str|[a-z]{3,}[0-9]\w*")
_REMEMBERED, _FEW = 4096, 32
_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


class InputCheck:
    """Looks whether arrays fit what a graph takes. It is made once and called for every run: what can be prepared is,
    and shapes that fitted once are not looked at again.
    """

    def __init__(
        self,
        signature: Signature,
        limits: Mapping[str, int],
        *,
        may_be_empty: Collection[str] = (),
        sums: Mapping[str, Sequence[str]] = MappingProxyType({}),
        steps: Mapping[str, int] = MappingProxyType({}),
        ids: Mapping[str, int] = MappingProxyType({}),
        finite: bool = False,
    ) -> None:
        """`limits` are the largest sizes of axes; `may_be_empty` those that may have none; `sums` have axes that are as
        long as others together, and `steps` those that are multiples of a number. `ids` says by input how many there
        are; with `finite`, numbers must be.

        Raises PackageError for a signature with a type that numpy does not have.
        """
        self._signature, self._limits, self._may_be_empty = signature, limits, may_be_empty
        self._sums, self._steps, self._ids, self._finite = sums, steps, tuple(ids.items()), finite
        self._names = frozenset(signature.input_names())
        self._specs = [(spec, spec.name, _dtype(spec), len(spec.shape)) for spec in signature.inputs]
        self._fitted: set[tuple[tuple[int, ...], ...]] = set()

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """`inputs` as arrays; values that cast without loss are cast (`int32` to `int64`, a list of Python's numbers to
        what is wanted).

        Raises InputError for what is no mapping, a missing or unknown name, a dtype that would lose values, a wrong
        rank or fixed size, a symbolic axis with two sizes or with none, one beyond its limit, one that is not as long
        as its parts, or whose parts are beyond its limit, or one that is no multiple of its step; for an id below 0 or
        too large, and for a number that is not finite.
        """
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            hint = f"its inputs: {', '.join(self._signature.input_names())}"
            raise InputError(f"arrays by name are wanted, got {type(inputs).__name__}", hint=hint)
        if inputs.keys() != self._names:
            self._refuse_names(inputs)
        arrays: Arrays = {}
        for spec, name, dtype, rank in self._specs:
            value = inputs[name]
            as_it_is = type(value) is np.ndarray and value.dtype is dtype and value.ndim == rank
            arrays[name] = value if as_it_is and value.flags.c_contiguous else _as_array(spec, value)
        shapes = tuple([array.shape for array in arrays.values()])
        if shapes not in self._fitted:
            self._check_sizes(arrays)
            if len(self._fitted) < _REMEMBERED:
                self._fitted.add(shapes)
        for name, count in self._ids:
            _check_ids(name, arrays[name], count)
        if self._finite:
            for name, array in arrays.items():
                _check_finite(name, array)
        return arrays

    def _refuse_names(self, inputs: Mapping[str, Any]) -> None:
        known = self._signature.input_names()
        for name in inputs:
            if name not in known:
                raise InputError(f"unknown input '{name}'", hint=did_you_mean(str(name), known))
        missing = [name for name in known if name not in inputs]
        raise InputError(f"missing {', '.join(missing)}", hint=f"given: {', '.join(inputs) or 'nothing'}")

    def _check_sizes(self, arrays: Arrays) -> None:
        sizes = _check_axes(self._signature, self._limits, arrays, self._may_be_empty)
        for total, parts in self._sums.items():
            _check_sum(total, parts, sizes, self._limits)
        for axis, step in self._steps.items():
            if sizes.get(axis, 0) % step:
                raise InputError(f"{axis} is {sizes[axis]}, and must be a multiple of {step}")


def _dtype(spec: TensorSpec) -> np.dtype[Any]:
    with suppress(TypeError, ValueError):
        if _TYPE.fullmatch(spec.dtype):
            return np.dtype(spec.dtype)
    raise PackageError(f"numpy has no type {spec.dtype!r}", where=spec.name)


def _check_sum(total: str, parts: Sequence[str], sizes: Mapping[str, int], limits: Mapping[str, int]) -> None:
    wanted = sum(sizes.get(part, 0) for part in parts)
    if total in sizes and sizes[total] != wanted:
        raise InputError(f"{total} is {sizes[total]}, and {' and '.join(parts)} are {wanted} together")
    if wanted > limits.get(total, wanted):
        raise InputError(f"{' and '.join(parts)} are {wanted} together, and the model takes at most {limits[total]}")


def _check_ids(name: str, array: npt.NDArray[Any], count: int) -> None:
    if array.size <= _FEW:  # Python is faster then
        numbers = array.ravel().tolist()
        wrong = bool(numbers) and (max(numbers) >= count or min(numbers) < 0)
    else:  # what is negative is very large without its sign
        wrong = array.view(_UNSIGNED[array.itemsize]).max() >= count
    if wrong:
        place = np.argwhere((array < 0) | (array >= count))[0]
        where = ", ".join(map(str, place))
        raise InputError(f"{name}[{where}] is {array[tuple(place)]}, and the model knows 0 to {count - 1}")


def _check_finite(name: str, array: npt.NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array.size - np.count_nonzero(np.isfinite(array))
        raise InputError(f"{name} has {bad} values that are not finite", hint="is what made it right?")


def _as_array(spec: TensorSpec, value: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except Exception as error:
        ragged = "inhomogeneous" in str(error)
        hint = "its rows are not equally long: pad them" if ragged else ""
        raise InputError(f"{spec.name} is not an array: {first_line(error)}", hint=hint) from error
    wanted = _dtype(spec)
    if array.dtype != wanted:
        array = _cast(spec.name, value, array, wanted)
    if array.ndim != len(spec.shape):
        axes = ", ".join(map(str, spec.shape))
        raise InputError(f"{spec.name} must have {len(spec.shape)} axes ({axes}), got {array.ndim}")
    return np.asarray(array, order="C")


def _cast(name: str, value: Any, array: npt.NDArray[Any], wanted: np.dtype[Any]) -> npt.NDArray[Any]:
    """`array` as `wanted`, where no value can be lost. Python's own numbers have no width: a list of them may become
    any array that holds them, but other numbers only a wider one.
    """
    if not array.dtype.hasobject and np.can_cast(array.dtype, wanted, casting="safe"):
        return array.astype(wanted)
    if isinstance(value, list | tuple) and (not array.size or array.dtype.kind + wanted.kind in _OF_A_LIST):
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(wanted)
        held = np.isfinite(cast) == np.isfinite(array) if array.dtype.kind == "f" else cast == array
        if held.all():
            return cast
        raise InputError(f"{name} has {array[~held][0]}, which {wanted} cannot hold")
    raise InputError(f"{name} must be {wanted}, got {array.dtype}")


def _check_axes(
    signature: Signature, limits: Mapping[str, int], arrays: Arrays, may_be_empty: Collection[str]
) -> dict[str, int]:
    """The size of every symbolic axis."""
    seen: dict[str, tuple[str, int]] = {}
    for spec in signature.inputs:
        for index, (axis, size) in enumerate(zip(spec.shape, arrays[spec.name].shape, strict=True)):
            if isinstance(axis, int):
                if size != axis:
                    raise InputError(f"{spec.name}: axis {index} must be {axis}, got {size}")
                continue
            first, expected = seen.setdefault(axis, (spec.name, size))
            if size != expected:
                raise InputError(f"{axis} differs: {first} has {expected}, {spec.name} has {size}")
            if size == 0 and axis not in may_be_empty:
                raise InputError(f"{spec.name}: {axis} is empty")
            if axis in limits and size > limits[axis]:
                raise InputError(f"{axis} is {size}, and the model takes at most {limits[axis]}", where=spec.name)
    return {axis: size for axis, (_, size) in seen.items()}
