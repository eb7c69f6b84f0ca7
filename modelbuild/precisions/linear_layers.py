"""The linear layers of a graph: multiplications by a constant matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from modelbuild.errors import OptimizeError, first_line
from modelbuild.graph import data_file

Floats = npt.NDArray[np.float32]

# Tensors below this stay in the graph file: shapes and scalars, which shape inference wants to see.
_EXTERNAL_FROM_BYTES = 1024
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearLayer:
    """A node that multiplies its first input by a constant fp32 matrix and may add a bias. Its `name` is that of the
    node, or of its output where that is not the node's alone.
    """

    name: str
    node: ir.Node
    weight: ir.Value
    bias: ir.Value | None
    transposed: bool

    def matrix(self) -> Floats:
        """The weights, one row for each input and one column for each output."""
        values = constant(self.weight)
        assert values is not None
        return values.T if self.transposed else values


def load_model(source: Path) -> ir.Model:
    """The graph in a file; its weights are mapped into memory, not read. Raises OptimizeError when it cannot be."""
    try:
        return ir.load(source)
    except Exception as error:
        raise OptimizeError(
            f"not a graph that can be read: {first_line(error)}", where=str(source), hint="build it again"
        ) from error


def save_model(model: ir.Model, out: Path) -> None:
    """Write a graph to the file `out` and its weights beside it, without what nothing reads any more."""
    common.RemoveUnusedNodesPass()(model)
    ir.save(model, out, external_data=data_file(out.name), size_threshold_bytes=_EXTERNAL_FROM_BYTES)


def linear_layers(model: ir.Model) -> tuple[LinearLayer, ...]:
    """The linear layers in the order of the graph, those of subgraphs too: MatMul and Gemm by a constant matrix, as it
    is, transposed, or with a Transpose before it.
    """
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    names = Counter(node.name for node in nodes)
    return tuple(layer for node in nodes if (layer := _layer(node, alone=names[node.name] == 1)))


def top_layers(model: ir.Model) -> tuple[LinearLayer, ...]:
    """The linear layers that are in no subgraph."""
    return tuple(layer for layer in linear_layers(model) if layer.node.graph is model.graph)


def chosen(layers: Sequence[LinearLayer], keep: frozenset[str], source: Path) -> list[LinearLayer]:
    """The `layers` of a graph but those to `keep`. Raises OptimizeError when it has none, or lacks one in `keep`."""
    if not layers:
        raise OptimizeError(
            "the graph has no linear layer (MatMul or Gemm by a constant matrix)",
            where=str(source),
            hint="choose precision=fp32, or optimization=multi_head_attention where attention has its weights inside",
        )
    unknown = sorted(keep - {layer.name for layer in layers})
    if unknown:
        raise OptimizeError(f"the graph has no linear layer {unknown[0]}", where=str(source), hint="keep one it has")
    return [layer for layer in layers if layer.name not in keep]


def require_finite(layers: Sequence[LinearLayer]) -> None:
    """Raise OptimizeError, naming it, when a weight has values that are not finite: it has no scale."""
    for layer in layers:
        if not np.isfinite(layer.matrix()).all():
            raise OptimizeError(
                f"the weight {layer.weight.name} has values that are not finite",
                where=layer.name,
                hint="check the weights, or choose precision=fp32",
            )


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The values of a constant; None for what is none, as is a default that whoever runs the graph may replace."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def add_constant(beside: ir.Value, name: str, values: npt.NDArray[Any] | ir.TensorProtocol) -> ir.Value:
    """A constant under that name in the graph that has the constant `beside`."""
    tensor = ir.tensor(values, name=name) if isinstance(values, np.ndarray) else values
    added = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    node = beside.producer()
    graph = beside.graph if node is None else node.graph
    assert isinstance(graph, ir.Graph)
    graph.register_initializer(added)
    return added


def replace_node(old: ir.Node, nodes: Sequence[ir.Node]) -> None:
    """Put `nodes` in the place of a node, under its tags. The last of them gives its one output."""
    for node in nodes:
        node.metadata_props.update(old.metadata_props)
    output = nodes[-1].outputs[0]
    output.shape, output.type, output.name = old.outputs[0].shape, old.outputs[0].type, old.outputs[0].name
    assert old.graph is not None
    ir.convenience.replace_nodes_and_values(old.graph, old, [old], list(nodes), old.outputs, [output])


def use_microsoft(model: ir.Model) -> None:
    """Let the graph have ONNX Runtime's own operators."""
    model.opset_imports.setdefault(_MICROSOFT, 1)


def _layer(node: ir.Node, *, alone: bool) -> LinearLayer | None:
    found = _matrix(node)
    if found is None:
        return None
    weight, transposed = found
    return LinearLayer(
        name=node.name if node.name and alone else str(node.outputs[0].name),
        node=node,
        weight=weight,
        bias=next(iter(node.inputs[2:]), None),
        transposed=transposed,
    )


def _matrix(node: ir.Node) -> tuple[ir.Value, bool] | None:
    """The constant matrix that a node multiplies by, and whether it is stored with a row for each output."""
    if (node.domain, node.op_type) not in (("", "MatMul"), ("", "Gemm"), (_MICROSOFT, "FusedMatMul")):
        return None
    if not set(_settings(node)) <= {("transB", 1)}:
        return None
    value, transposed = node.inputs[1], ("transB", 1) in _settings(node)
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type == "Transpose" and maker.domain == "":
        value, transposed = maker.inputs[0], not transposed
    values = constant(value)
    if value is None or values is None or values.ndim != 2 or values.dtype != np.float32 or not values.size:
        return None
    return value, transposed


def _settings(node: ir.Node) -> Iterator[tuple[str, float]]:
    """The attributes of a multiplication that are not what they are by default."""
    for name, attribute in node.attributes.items():
        value = attribute.value
        if value != (1.0 if name in ("alpha", "beta") else 0):
            yield name, value
