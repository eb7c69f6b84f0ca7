"""Weights and arithmetic in 16 bits, fp16 or bf16; inputs and outputs stay as they are. For GPUs.

What is not right in 16 bits stays in fp32, with casts around it: operators that have no 16 bit kernel (ONNX Runtime's
own list), means of squares, which leave the range of fp16 where their roots do not, and arithmetic on positions, which
16 bits cannot tell apart (rotary and sinusoidal embeddings, relative positions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxruntime.transformers.float16 import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST

from modelbuild.errors import OptimizeError
from modelbuild.precision_spec import Precision
from modelbuild.precisions import Arrays
from modelbuild.precisions.inside import open_inside
from modelbuild.precisions.linear_layers import chosen, constant, linear_layers, load_model, save_model
from modelbuild.weights.rounding import narrowed

_WIDE = ir.DataType.FLOAT
_NARROW = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_MEANS = ("Pow", "ReduceMean", "ReduceSumSquare", "Sqrt", "Reciprocal")
_OF_POSITIONS = ("Sin", "Cos", "Log", "Floor", "Ceil", "Round", "Mod")
_IN_FP32 = frozenset({*DEFAULT_OP_BLOCK_LIST, *_MEANS})
# Attributes that say of which type the output is. All of these operators make fp32 where they do not say.
_TYPED = {"Cast": "to", "EyeLike": "dtype", "Multinomial": "dtype", "Bernoulli": "dtype"} | dict.fromkeys(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), "dtype"
)


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
    """Write the graph in 16 bits. No calibration is needed.

    Raises OptimizeError where a weight is beyond the range of the type, and for a name in `keep` that no layer has.
    """
    model = load_model(source)
    common.InlinePass()(model)
    _infer_types(model, source, custom_ops)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    every = linear_layers(model)
    left = chosen(every, keep, source) if keep else every
    kept = {node for layer in every if layer not in left for node in (layer.node, layer.node.inputs[1].producer())}
    _Conversion(narrow=_NARROW[precision.kind], wide=kept | on_positions(model)).convert(model)
    save_model(model, out)


def on_positions(model: ir.Model) -> set[ir.Node]:
    """The nodes that compute with positions what 16 bits are too few for: sines and what becomes a whole number again,
    and all that goes into them, where that comes from whole numbers and constants alone, with no embedding between.
    """
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    free: set[ir.Value] = set()
    for node in nodes:
        floats = [value for value in node.inputs if _is_float(value)]
        if "Gather" not in node.op_type and all(value in free or constant(value) is not None for value in floats):
            free.update(value for value in node.outputs if _is_float(value))
    waiting = [node for node in nodes if _is_exact(node) and free.intersection(node.inputs)]
    found: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        found.add(node)
        makers = (value.producer() for value in node.inputs if value in free)
        waiting += [maker for maker in makers if maker is not None and maker not in found]
    return found


def _is_exact(node: ir.Node) -> bool:
    whole = node.op_type == "Cast" and ir.DataType(node.attributes["to"].as_int()).is_integer()
    return node.domain == "" and (node.op_type in _OF_POSITIONS or whole)


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == _WIDE


@dataclass(kw_only=True, eq=False)
class _Conversion:
    """A graph on the way from fp32 to `narrow`: the nodes that stay `wide`, and what has been found of its values."""

    narrow: ir.DataType
    wide: set[ir.Node | None]
    stays: set[ir.Value] = field(default_factory=set)
    floats: set[ir.Value] = field(default_factory=set)
    casts: dict[tuple[ir.Value, ir.DataType, Any], ir.Value] = field(default_factory=dict)

    def convert(self, model: ir.Model) -> None:
        nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
        self.stays.update(value for value in model.graph.inputs if _is_float(value))
        self.floats.update(value for node in nodes for value in (*node.inputs, *node.outputs) if _is_float(value))
        self.wide.update(node for node in nodes if node.domain == "" and node.op_type in _IN_FP32)
        self.wide.update([node for node in nodes if self._is_between(node)])
        self.stays.update(value for node in nodes if node in self.wide for value in node.outputs if _is_float(value))
        for graph in model.graphs():
            self._convert_constants(graph)
        for node in nodes:
            self._convert_inputs(node)
            self._convert_node(node)
        for graph in model.graphs():
            self._convert_outputs(graph, _WIDE if graph is model.graph else self.narrow)

    def _is_between(self, node: ir.Node) -> bool:
        """Whether a node only computes from what others made that stay wide, for others that do."""
        makers = [value.producer() for value in node.inputs if _is_float(value) and constant(value) is None]
        readers = [reader for value in node.outputs for reader in value.consumers()]
        return bool(makers and readers) and self.wide.issuperset([*makers, *readers])

    def _wants(self, node: ir.Node, place: int) -> ir.DataType:
        always = place in ALWAYS_FLOAT_INPUTS.get(node.op_type, ())
        return _WIDE if always or node in self.wide else self.narrow

    def _convert_constants(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            tensor = value.const_value
            if not _is_float(value) or tensor is None or value.is_graph_input() or value.is_graph_output():
                self.stays.update({value} if _is_float(value) else ())
            elif all(self._wants(use.node, use.idx) == _WIDE for use in value.uses()):
                self.stays.add(value)
            else:
                value.const_value = self._rounded(tensor)
                value.dtype = self.narrow

    def _rounded(self, tensor: ir.TensorProtocol) -> ir.LazyTensor:
        """The constant in 16 bits, which are made when it is written. Raises OptimizeError where one has no value."""
        kind, name = np.dtype(self.narrow.numpy()), tensor.name
        values = tensor.numpy()
        wrong = np.isfinite(values) & ~np.isfinite(narrowed(values, kind).astype(np.float32))
        if wrong.any():
            largest = values[wrong][int(np.argmax(np.abs(values[wrong])))]
            raise OptimizeError(
                f"the weight {name} has {int(wrong.sum())} values beyond the range of {self.narrow.name.lower()}",
                where=f"{largest!s} is one",
                hint="choose precision=bf16, which has the range of fp32, or precision=fp32",
            )
        return ir.LazyTensor(
            lambda: ir.tensor(narrowed(tensor.numpy(), kind), name=name),
            dtype=self.narrow,
            shape=ir.Shape(tensor.shape),
            name=name,
        )

    def _convert_inputs(self, node: ir.Node) -> None:
        for place, value in enumerate(node.inputs):
            if value in self.floats and (_WIDE if value in self.stays else self.narrow) != self._wants(node, place):
                node.replace_input_with(place, self._cast(value, self._wants(node, place), node))

    def _cast(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in the other type, made once in each graph, before the first node that reads it so."""
        key = (value, dtype, reader.graph)
        if key not in self.casts:
            number = sum(value is other for other, _, _ in self.casts)
            name = f"{value.name}/{dtype.name.lower()}{f'.{number}' if number else ''}"
            node = _cast_node(value, dtype, name, reader)
            assert reader.graph is not None
            reader.graph.insert_before(reader, node)
            self.casts[key] = node.outputs[0]
        return self.casts[key]

    def _convert_node(self, node: ir.Node) -> None:
        if node in self.wide:
            return
        for graph in (graph for attribute in node.attributes.values() for graph in _graphs(attribute)):
            self._narrow(graph.inputs)
        if not self.floats.intersection(node.outputs):
            return
        self._narrow(node.outputs)
        if node.op_type in _TYPED:
            node.attributes[_TYPED[node.op_type]] = ir.AttrInt64(_TYPED[node.op_type], self.narrow)
        if node.op_type == "ConstantOfShape":
            filling = node.attributes["value"].as_tensor().numpy() if "value" in node.attributes else np.zeros(1, "f")
            tensor = ir.tensor(narrowed(filling, np.dtype(self.narrow.numpy())), name="value")
            node.attributes["value"] = ir.AttrTensor("value", tensor)

    def _narrow(self, values: Sequence[ir.Value]) -> None:
        for value in filter(_is_float, values):
            # Of an output that nobody reads the operator alone says what it is: statistics stay in fp32.
            read = value.uses() or value.is_graph_output() or value.is_graph_input()
            value.type = ir.TensorType(self.narrow) if read else None
            value.shape = value.shape if read else None

    def _convert_outputs(self, graph: ir.Graph, dtype: ir.DataType) -> None:
        for place, value in enumerate(graph.outputs):
            maker = value.producer()
            if value in self.floats and maker is not None and (_WIDE if value in self.stays else self.narrow) != dtype:
                name, value.name = value.name, f"{value.name}/inside"
                node = _cast_node(value, dtype, str(name), maker)
                graph.append(node)
                graph.outputs[place] = node.outputs[0]


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else []


def _cast_node(value: ir.Value, dtype: ir.DataType, name: str, beside: ir.Node) -> ir.Node:
    node = ir.node("Cast", [value], {"to": dtype}, name=f"{name}/cast")
    node.metadata_props.update(beside.metadata_props)
    output = node.outputs[0]
    output.name, output.dtype, output.shape = name, dtype, value.shape
    return node


def _infer_types(model: ir.Model, source: Path, custom_ops: Sequence[str]) -> None:
    """Ask ONNX Runtime for the types of values of which the file does not say them. Raises OptimizeError where it does
    not know either.
    """
    untyped = {
        str(value.name): value for node in model.graph for value in node.outputs if value.name and not value.type
    }
    if untyped:
        found = {value.name: value.type for value in open_inside(source, list(untyped), custom_ops).get_outputs()}
        for name, value in untyped.items():
            if found[name] == "tensor(float)":
                value.dtype = _WIDE
