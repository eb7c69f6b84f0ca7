"""The quantized tensors of an ONNX file: which of its constants are numbers, scales and zero points of one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelbuild.node_tags import INFERRED, all_nodes, load_graph, read_tag
from modelbuild.weights.quantized import Grid, Quantized, affine, blocks
from modelbuild.weights.tensors import Array

# Operator -> where its inputs have the numbers, the scale and the zero point.
_PLACES = {
    ("", "DequantizeLinear"): (0, 1, 2),
    ("", "QLinearMatMul"): (3, 4, 5),
    ("com.microsoft", "DequantizeLinear"): (0, 1, 2),
    ("com.microsoft", "DynamicQuantizeMatMul"): (1, 2, 3),
    ("com.microsoft", "MatMulIntegerToFloat"): (1, 3, 5),
    ("com.microsoft", "MatMulNBits"): (1, 2, 3),
    ("com.microsoft", "QGemm"): (3, 4, 5),
}
# What may be between a layer and the multiplication of its input by a constant.
_BETWEEN = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")


def quantized_tensors(model: Path, owned: Mapping[str, frozenset[str]]) -> Iterator[Quantized]:
    """The quantized matrices of an ONNX file in its order, each once. `owned` are the names of the parameters of each
    module: a matrix belongs to the one that the tag of its node names.
    """
    tags = {name: read_tag(node) for node in all_nodes(load_graph(model)) for name in node.output}
    seen: set[ir.Value] = set()
    for node in ir.traversal.RecursiveGraphIterator(ir.load(model).graph):
        found = _inputs(node)
        if found is not None and found[0] not in seen:
            seen.add(found[0])
            tag = tags[str(_whole(node).outputs[0].name)]
            known = tag is not None and tag.source != INFERRED
            yield _quantized(node, *found, belongs=owned.get(tag.module, frozenset()) if tag and known else frozenset())


def _inputs(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value | None] | None:
    """The constant matrix of a node, its scale and its zero point."""
    if (node.domain, node.op_type) == ("", "MatMulInteger"):
        numbers, scale = node.inputs[1], _later_scale(node)
        zero = node.inputs[3] if len(node.inputs) > 3 else None
    elif (node.domain, node.op_type) in _PLACES:
        places = _PLACES[node.domain, node.op_type]
        numbers, scale, zero = (node.inputs[at] if at < len(node.inputs) else None for at in places)
    else:
        return None
    values = _constant(numbers)
    if numbers is None or scale is None or values is None or values.ndim < 2 or _constant(scale) is None:
        return None
    return numbers, scale, zero if _constant(zero) is not None else None


def _later_scale(node: ir.Node) -> ir.Value | None:
    """The constant that the product of whole numbers is multiplied by, together with the scale of the other side."""
    users = [user for cast in node.outputs[0].consumers() for user in cast.outputs[0].consumers()]
    for product in (value.producer() for user in users if user.op_type == "Mul" for value in user.inputs if value):
        if product is not None and product.op_type == "Mul":
            return next((value for value in product.inputs if _constant(value) is not None), None)
    return None


def _quantized(
    node: ir.Node, numbers: ir.Value, scale: ir.Value, zero: ir.Value | None, *, belongs: frozenset[str]
) -> Quantized:
    packed = node.op_type == "MatMulNBits"
    shape = tuple(node.attributes[name].as_int() for name in "KN") if packed else tuple(_values(numbers).shape)
    return Quantized(
        name=str(numbers.name),
        shape=shape,
        parts=frozenset(str(value.name) for value in (numbers, scale, zero) if value is not None),
        read=partial(_read, node, numbers, scale, zero),
        smoothing=_smoothing(_layer(node), shape[0]),
        belongs=belongs,
    )


def _read(node: ir.Node, numbers: ir.Value, scale: ir.Value, zero: ir.Value | None) -> Grid:
    values, scales, zeros = _values(numbers), _values(scale), _constant(zero)
    if node.op_type == "MatMulNBits":
        return blocks(values, scales, zeros, node.attributes["K"].as_int(), _setting(node, "bits", 4))
    turned = node.op_type == "QGemm" and _setting(node, "transB", 0)
    axis = _setting(node, "axis", 1) if node.op_type == "DequantizeLinear" else 0 if turned else values.ndim - 1
    return affine(values, scales, zeros, axis % values.ndim, _setting(node, "block_size", 0))


def _setting(node: ir.Node, name: str, default: int) -> int:
    return int(node.attributes[name].as_int()) if name in node.attributes else default


def _layer(node: ir.Node) -> ir.Node:
    """The node that multiplies by the matrix of a node: the node itself, or the only reader of what it dequantizes."""
    while node.op_type in ("DequantizeLinear", "Transpose") and len(node.outputs[0].consumers()) == 1:
        node = node.outputs[0].consumers()[0]
    return node


def _whole(node: ir.Node) -> ir.Node:
    """The node that gives what the layer gives: after a product of whole numbers, the one that scales it."""
    layer = _layer(node)
    for _ in range(2 if layer.op_type == "MatMulInteger" else 0):
        layer = next(iter(layer.outputs[0].consumers()), layer)
    return layer


def _smoothing(layer: ir.Node, rows: int) -> tuple[str, Array] | None:
    """The constant that what a layer reads is multiplied by, one number for each of its channels."""
    value = layer.inputs[0] if layer.inputs else None
    while value is not None and (maker := value.producer()) is not None and _is_between(maker):
        value = maker.inputs[0]
    maker = value.producer() if value is not None else None
    if maker is None or maker.op_type not in ("Mul", "Div"):
        return None
    for place in (0, 1) if maker.op_type == "Mul" else (1,):
        given, factors = maker.inputs[place], _constant(maker.inputs[place])
        if given is not None and factors is not None and factors.size == rows and factors.dtype.kind == "f":
            flat = factors.reshape(-1)
            return str(given.name), flat if maker.op_type == "Mul" else 1 / flat
    return None


def _is_between(node: ir.Node) -> bool:
    """Whether a node only writes a value in other numbers: also one that divides each row by a size of its own."""
    return node.op_type in _BETWEEN or (node.op_type == "Div" and _constant(node.inputs[1]) is None)


def _values(value: ir.Value) -> Array:
    found = _constant(value)
    assert found is not None
    return found


def _constant(value: ir.Value | None) -> Array | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else np.asarray(tensor.numpy())
