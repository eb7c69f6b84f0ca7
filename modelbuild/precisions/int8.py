"""Linear layers in 8 bit integers whose inputs are quantized as they come. For CPUs.

Every row of an input, which is a token or a patch, gets a scale of its own, and every column of the weights. A row
alone therefore gives the same as beside others, which it does not where one scale is shared by all that is in a batch
(ONNX Runtime's DynamicQuantizeMatMul), and errors are a third smaller. Layers that read the same input share its
quantization. With calibration data, channels that are much larger than others are made even first (see `smoothing`).

Worst cosine of 200 sentences with fp32, all-MiniLM-L6-v2: one scale for each tensor 0.980, for each row 0.986, with
smoothing 0.996. The sums of products are exact where the CPU has instructions for them (VNNI, on Arm the dot product);
others saturate (microsoft/onnxruntime#14642), so that a package is right where its validation ran, or newer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from modelbuild.precision_spec import Precision
from modelbuild.precisions import Arrays
from modelbuild.precisions.linear_layers import (
    Floats,
    LinearLayer,
    add_constant,
    chosen,
    linear_layers,
    load_model,
    replace_node,
    require_finite,
    save_model,
    use_microsoft,
)
from modelbuild.precisions.sampled_rows import sample_rows
from modelbuild.precisions.smoothing import STEPS, factors, quantized

# ReduceMax takes its axes as an input since then.
_AXES_ARE_AN_INPUT = 18
_MIDDLE = np.uint8(128)


def layers(source: Path, precision: Precision) -> tuple[str, ...]:
    """The linear layers of the graph, in its order, those of subgraphs too."""
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
    """Write the graph with its linear layers in 8 bits. Without calibration data inputs are not smoothed.

    Raises OptimizeError where there is no linear layer, where a weight is not finite, and where the graph does not run
    on the calibration data.
    """
    model = load_model(source)
    every = linear_layers(model)
    reduced = chosen(every, keep, source)
    require_finite(reduced)
    groups = _groups(reduced)
    found = _smoothing(source, model.graph, groups, every, calibration, custom_ops) if calibration else {}
    reduction = _Reduction(opset=model.opset_imports.get("", 1))
    for group in groups:
        reduction.quantize(group, found.get(group.name))
    use_microsoft(model)
    save_model(model, out)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """The layers of one graph that read the same value."""

    value: ir.Value
    layers: tuple[LinearLayer, ...]

    @property
    def name(self) -> str:
        return str(self.value.name)

    @property
    def weights(self) -> set[ir.Value]:
        return {layer.weight for layer in self.layers}


def _groups(layers: Sequence[LinearLayer]) -> list[_Group]:
    readers: dict[tuple[ir.Value, object], list[LinearLayer]] = {}
    for layer in layers:
        value = layer.node.inputs[0]
        assert value is not None
        readers.setdefault((value, layer.node.graph), []).append(layer)
    return [_Group(value=value, layers=tuple(read)) for (value, _), read in readers.items()]


def _smoothing(
    source: Path,
    graph: ir.Graph,
    groups: Sequence[_Group],
    every: Sequence[LinearLayer],
    calibration: Sequence[Arrays],
    custom_ops: Sequence[str],
) -> Mapping[str, Floats]:
    """The factors of the inputs that are to be smoothed, by name. Inside of subgraphs they cannot be read; and where a
    weight has other readers too, as in ALBERT, it would have to be written for each.
    """
    alone = [
        group
        for group in groups
        if group.layers[0].node.graph is graph
        and not group.weights.intersection(layer.weight for layer in every if layer not in group.layers)
    ]
    samples = sample_rows(source, [group.name for group in alone], calibration, custom_ops)
    found = {
        group.name: factors(samples[group.name], [layer.matrix() for layer in group.layers])
        for group in alone
        if group.name in samples
    }
    return {name: factor for name, factor in found.items() if factor is not None}


@dataclass(frozen=True, kw_only=True)
class _Reduction:
    """A graph of that opset on the way to 8 bits, and the weights that are there already."""

    opset: int
    weights: dict[tuple[ir.Value, bool], tuple[ir.Value, ir.Value]] = field(default_factory=dict)

    def quantize(self, group: _Group, factor: Floats | None) -> None:
        """Quantize what the layers of a group read, once, and their weights, smoothed by `factor`."""
        first = group.layers[0]
        nodes, read, largest = self._quantized_input(first, factor)
        for node in nodes:
            node.metadata_props.update(first.node.metadata_props)
        assert first.node.graph is not None
        first.node.graph.insert_before(first.node, nodes)
        for layer in group.layers:
            self._replace(layer, read, largest, factor)

    def _quantized_input(self, layer: LinearLayer, factor: Floats | None) -> tuple[list[ir.Node], ir.Value, ir.Value]:
        """Nodes that make integers around 128 of an input, and the largest magnitude of each of its rows. A row of
        zeros makes no number of 0 / 0, whatever integer that becomes: its product is multiplied by the 0 again.
        """
        name, value = f"{layer.name}/input", layer.node.inputs[0]
        nodes: list[ir.Node] = []
        if factor is not None:
            inverse = add_constant(layer.weight, f"{name}/smoothing", (1 / factor).astype(np.float32))
            nodes.append(_node("Mul", [value, inverse], f"{name}/smooth"))
            value = nodes[-1].outputs[0]
        nodes.append(_node("Abs", [value], f"{name}/magnitude"))
        nodes.append(self._row_maximum(layer, nodes[-1].outputs[0], f"{name}/largest"))
        largest = nodes[-1].outputs[0]
        nodes.append(_node("Div", [value, largest], f"{name}/share"))
        grid = (self._step(layer), _constant(layer, "middle", np.array(_MIDDLE)))
        nodes.append(_node("QuantizeLinear", [nodes[-1].outputs[0], *grid], f"{name}/quantize", ir.DataType.UINT8))
        return nodes, nodes[-1].outputs[0], largest

    def _row_maximum(self, layer: LinearLayer, value: ir.Value, name: str) -> ir.Node:
        if self.opset < _AXES_ARE_AN_INPUT:
            return _node("ReduceMax", [value], name, axes=[-1], keepdims=1)
        return _node("ReduceMax", [value, _constant(layer, "last_axis", np.array([-1]))], name, keepdims=1)

    def _step(self, layer: LinearLayer) -> ir.Value:
        return _constant(layer, "step", np.array(1 / STEPS, np.float32))

    def _replace(self, layer: LinearLayer, read: ir.Value, largest: ir.Value, factor: Floats | None) -> None:
        integers, scales = self._weight(layer, factor)
        step, middle = self._step(layer), _constant(layer, "middle", np.array(_MIDDLE))
        product = _node(
            "MatMulIntegerToFloat", [read, integers, step, scales, middle], layer.name, domain="com.microsoft"
        )
        nodes = [product, _node("Mul", [product.outputs[0], largest], f"{layer.name}/scale")]
        if layer.bias is not None:
            nodes.append(_node("Add", [nodes[-1].outputs[0], layer.bias], f"{layer.name}/bias"))
        replace_node(layer.node, nodes)

    def _weight(self, layer: LinearLayer, factor: Floats | None) -> tuple[ir.Value, ir.Value]:
        """The integers and the scales of a weight; those that several layers have are written once."""
        key = (layer.weight, layer.transposed)
        if key not in self.weights:
            matrix = layer.matrix()
            parts = quantized(matrix if factor is None else matrix * factor[:, None])
            integers, scales = (
                add_constant(layer.weight, f"{layer.name}/weight.{part}", np.ascontiguousarray(values))
                for part, values in zip(("quantized", "scale"), parts, strict=True)
            )
            self.weights[key] = (integers, scales)
        return self.weights[key]


def _node(
    operator: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    dtype: ir.DataType = ir.DataType.FLOAT,
    domain: str = "",
    **attributes: ir.attributes.SupportedAttrTypes,
) -> ir.Node:
    node = ir.node(operator, inputs, attributes, domain=domain, name=name)
    node.outputs[0].name, node.outputs[0].dtype = f"{name}.out", dtype
    return node


def _constant(layer: LinearLayer, name: str, values: npt.NDArray[np.generic]) -> ir.Value:
    """A constant that all layers share whose weights are in one graph."""
    maker = layer.weight.producer()
    graph = layer.weight.graph if maker is None else maker.graph
    assert isinstance(graph, ir.Graph)
    full = f"int8/{name}"
    return graph.initializers[full] if full in graph.initializers else add_constant(layer.weight, full, values)
