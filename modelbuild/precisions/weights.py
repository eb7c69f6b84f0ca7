"""The weights of linear layers in 8 or 4 bits, in blocks with a scale each: ONNX Runtime's MatMulNBits.

A block is `block_size` weights of one output. In 8 bits it has a scale and no zero point: -127 to 127 times the scale.
In 4 bits it has both, so that its 15 steps reach from its smallest to its largest weight. Rounding is to the nearest,
so that no weight is off by more than half of its block's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from modelbuild.errors import OptimizeError
from modelbuild.precision_spec import Precision, WeightsPrecision
from modelbuild.precisions import Arrays
from modelbuild.precisions.linear_layers import (
    Floats,
    LinearLayer,
    add_constant,
    chosen,
    linear_layers,
    load_model,
    replace_node,
    save_model,
    use_microsoft,
)

Bytes = npt.NDArray[np.uint8]
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """A matrix as MatMulNBits wants it: for each output and block its weights, in 4 bits two to a byte, the first in
    the lower half; for each output and block a scale; and zero points, or none where they are the middle.
    """

    packed: Bytes
    scales: Floats
    zero_points: Bytes | None


def layers(source: Path, precision: Precision) -> tuple[str, ...]:
    """The linear layers of the graph, in its order."""
    return tuple(layer.name for layer in linear_layers(load_model(source)))


def reduce(
    source: Path,
    out: Path,
    precision: Precision,
    *,
    keep: frozenset[str] = frozenset(),
    calibration: Sequence[Arrays] = (),
    custom_ops: Sequence[str] = (),
) -> None:
    """Write the graph with the weights of its linear layers in blocks. No calibration is needed.

    Raises OptimizeError where there is no linear layer, or a weight is not finite.
    """
    assert isinstance(precision, WeightsPrecision)
    model = load_model(source)
    made: dict[tuple[ir.Value, bool], list[ir.Value | None]] = {}
    for layer in chosen(linear_layers(model), keep, source):
        key = (layer.weight, layer.transposed)
        if key not in made:
            made[key] = _constants(layer, precision)
        _replace(layer, precision, made[key])
    use_microsoft(model)
    save_model(model, out)


def _constants(layer: LinearLayer, precision: WeightsPrecision) -> list[ir.Value | None]:
    matrix = layer.matrix()
    if not np.isfinite(matrix).all():
        raise OptimizeError(f"the weight {layer.weight.name} has values that are not finite", where=layer.name)
    blocks = in_blocks(matrix, bits_of(precision), precision.block_size)
    parts = {"quantized": blocks.packed, "scale": blocks.scales, "zero_point": blocks.zero_points}
    prefix = f"{layer.weight.name}{'.T' if layer.transposed else ''}"
    return [
        None if values is None else add_constant(layer.weight, f"{prefix}.{part}", values)
        for part, values in parts.items()
    ]


def bits_of(precision: WeightsPrecision) -> int:
    """How many bits a weight has."""
    return 4 if precision.kind == "int4" else 8


def _replace(layer: LinearLayer, precision: WeightsPrecision, constants: Sequence[ir.Value | None]) -> None:
    inputs, outputs = layer.matrix().shape
    settings = {
        "K": inputs,
        "N": outputs,
        "bits": bits_of(precision),
        "block_size": precision.block_size,
        "accuracy_level": precision.accuracy_level,
    }
    name, domain = layer.node.name, "com.microsoft"
    product = ir.node("MatMulNBits", [layer.node.inputs[0], *constants], settings, domain=domain, name=name)
    nodes = [product]
    if layer.bias is not None:
        nodes.append(ir.node("Add", [product.outputs[0], layer.bias], name=f"{name}/bias"))
        product.outputs[0].name = f"{layer.node.outputs[0].name}/product"
        product.outputs[0].dtype = ir.DataType.FLOAT
    replace_node(layer.node, nodes)


def in_blocks(matrix: Floats, bits: int, block_size: int) -> Blocks:
    """A matrix, with a row for each input, in blocks of 8 or 4 bits. The last block is filled with zeros."""
    count = -(-matrix.shape[0] // block_size)
    padded = np.pad(matrix.T, ((0, 0), (0, count * block_size - matrix.shape[0])))
    values = padded.reshape(matrix.shape[1], count, block_size)
    if bits == 8:
        scales = np.maximum(np.abs(values).max(axis=2) / np.float32(127), _TINY)
        quantized = (np.rint(values / scales[..., None]) + 128).astype(np.uint8)
        return Blocks(packed=quantized, scales=scales, zero_points=None)
    lowest, highest = np.minimum(values.min(axis=2), 0), np.maximum(values.max(axis=2), 0)
    scales = np.maximum((highest - lowest) / np.float32(15), _TINY)
    zeros = np.rint(-lowest / scales)
    quantized = np.clip(np.rint(values / scales[..., None]) + zeros[..., None], 0, 15).astype(np.uint8)
    return Blocks(packed=_in_pairs(quantized), scales=scales, zero_points=_in_pairs(zeros.astype(np.uint8)))


def _in_pairs(values: Bytes) -> Bytes:
    """Values of 4 bits two to a byte along the last axis, the first in the lower half."""
    even = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])
    return np.asarray(even[..., 0::2] | even[..., 1::2] << 4, np.uint8)
