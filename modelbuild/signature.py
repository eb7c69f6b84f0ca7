"""What goes into a model and what comes out: names, dtypes, symbolic shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output.

    `dtype` is a NumPy dtype name such as `int64`. Each axis of `shape` is a fixed size (`int`) or the name of a
    symbolic axis (`str`), such as `("batch", "sequence")`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def symbolic_axes(self) -> frozenset[str]:
        """The names of the axes whose size is not fixed."""
        return frozenset(axis for axis in self.shape if isinstance(axis, str))


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The inputs and outputs of a graph, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input_names(self) -> tuple[str, ...]:
        """The input names, in order."""
        return tuple(tensor.name for tensor in self.inputs)

    def output_names(self) -> tuple[str, ...]:
        """The output names, in order."""
        return tuple(tensor.name for tensor in self.outputs)


def signature_to_dict(signature: Signature) -> dict[str, Any]:
    """`signature` as plain JSON values."""
    return {
        "inputs": [_tensor_to_dict(tensor) for tensor in signature.inputs],
        "outputs": [_tensor_to_dict(tensor) for tensor in signature.outputs],
    }


def signature_from_dict(data: Mapping[str, Any]) -> Signature:
    """The signature that `signature_to_dict` wrote. Raises KeyError or TypeError when `data` is something else."""
    return Signature(
        inputs=tuple(_tensor_from_dict(tensor) for tensor in data["inputs"]),
        outputs=tuple(_tensor_from_dict(tensor) for tensor in data["outputs"]),
    )


def _tensor_to_dict(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def _tensor_from_dict(data: Mapping[str, Any]) -> TensorSpec:
    name, dtype, shape = data["name"], data["dtype"], tuple(data["shape"])
    if not isinstance(name, str) or not isinstance(dtype, str) or any(type(axis) not in (int, str) for axis in shape):
        raise TypeError(f"a tensor is {name!r}, {dtype!r}, {shape!r}")
    return TensorSpec(name=name, dtype=dtype, shape=shape)
