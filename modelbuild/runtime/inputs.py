"""Inputs are checked before ONNX Runtime sees them, so that what is wrong is said in one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.errors import InputError
from modelbuild.signature import Signature, TensorSpec
from modelbuild.suggest import did_you_mean

Arrays = dict[str, npt.NDArray[Any]]


def check_inputs(
    signature: Signature,
    limits: Mapping[str, int],
    inputs: Mapping[str, Any],
    *,
    may_be_empty: Collection[str] = (),
    sums: Mapping[str, Sequence[str]] = MappingProxyType({}),
    steps: Mapping[str, int] = MappingProxyType({}),
) -> Arrays:
    """`inputs` as arrays that fit `signature`; values that cast without loss are cast (`int32` to `int64`).

    Raises InputError for a missing or unknown name, a dtype that would lose values, a wrong rank or fixed size, a
    symbolic axis with two sizes or with none (unless it `may_be_empty`), one beyond `limits`, one of `sums` that is not
    as long as its parts, or whose parts are beyond its limit, or one that is no multiple of its step in `steps`.
    """
    known = signature.input_names()
    for name in inputs:
        if name not in known:
            raise InputError(f"unknown input '{name}'", hint=did_you_mean(name, known))
    missing = [name for name in known if name not in inputs]
    if missing:
        raise InputError(f"missing {', '.join(missing)}", hint=f"given: {', '.join(inputs) or 'nothing'}")
    arrays = {spec.name: _as_array(spec, inputs[spec.name]) for spec in signature.inputs}
    sizes = _check_axes(signature, limits, arrays, may_be_empty)
    for total, parts in sums.items():
        wanted = sum(sizes.get(part, 0) for part in parts)
        if total in sizes and sizes[total] != wanted:
            raise InputError(f"{total} is {sizes[total]}, and {' and '.join(parts)} are {wanted} together")
        if wanted > limits.get(total, wanted):
            raise InputError(
                f"{' and '.join(parts)} are {wanted} together, and the model takes at most {limits[total]}"
            )
    for axis, step in steps.items():
        if sizes.get(axis, 0) % step:
            raise InputError(f"{axis} is {sizes[axis]}, and must be a multiple of {step}")
    return arrays


def _as_array(spec: TensorSpec, value: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InputError(f"{spec.name} is not an array: {error}") from error
    wanted = np.dtype(spec.dtype)
    if array.dtype != wanted:
        if array.dtype.hasobject or not np.can_cast(array.dtype, wanted, casting="safe"):
            raise InputError(f"{spec.name} must be {wanted}, got {array.dtype}")
        array = array.astype(wanted)
    if array.ndim != len(spec.shape):
        axes = ", ".join(map(str, spec.shape))
        raise InputError(f"{spec.name} must have {len(spec.shape)} axes ({axes}), got {array.ndim}")
    return np.asarray(array, order="C")


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
