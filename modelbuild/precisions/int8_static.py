"""Linear layers in 8 bit integers, with ranges of their inputs that were found on calibration data.

What a layer reads has one range and a zero point, its weights are symmetric with a scale for each output. The product
is one operator, ONNX Runtime's MatMulIntegerToFloat: of the standard's QuantizeLinear and DequantizeLinear it makes the
same where it can, and not where a bias on two axes has made a Gemm of it before. An input has channels that are much
larger than others, and its one range is theirs: every input is smoothed (see `smoothing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from modelbuild.errors import OptimizeError, first_line
from modelbuild.precision_spec import Precision
from modelbuild.precisions import Arrays
from modelbuild.precisions.inside import open_inside
from modelbuild.precisions.linear_layers import (
    Floats,
    LinearLayer,
    add_constant,
    chosen,
    load_model,
    replace_node,
    require_finite,
    save_model,
    top_layers,
    use_microsoft,
)
from modelbuild.precisions.smoothing import even_factors, quantized

_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranges:
    """The smallest and the largest value of each channel of a tensor."""

    lowest: Floats
    highest: Floats

    def widest(self) -> Floats:
        """The largest magnitude of each channel."""
        return np.maximum(np.abs(self.lowest), np.abs(self.highest))


def layers(source: Path, precision: Precision) -> tuple[str, ...]:
    """The linear layers of the graph, in its order, but those in subgraphs."""
    return tuple(layer.name for layer in top_layers(load_model(source)))


def reduce(
    source: Path,
    out: Path,
    precision: Precision,
    *,
    keep: frozenset[str] = frozenset(),
    calibration: Sequence[Arrays] = (),
    custom_ops: Sequence[str] = (),
) -> None:
    """Write the graph with its linear layers in 8 bits, and the ranges of what they read in `calibration`.

    Raises OptimizeError where there is no calibration data, or the graph does not run on it, or gives values that are
    not finite; and where there is no linear layer.
    """
    if not calibration:
        raise OptimizeError(
            "int8_static needs data to find the ranges of activations on",
            where=str(source),
            hint="give calibration data, or choose precision=int8, which needs none",
        )
    model = load_model(source)
    readers: dict[str, list[LinearLayer]] = {}
    for layer in chosen(top_layers(model), keep, source):
        readers.setdefault(layer.node.inputs[0].name, []).append(layer)
    ranges = find_ranges(source, list(readers), calibration, custom_ops)
    for name, together in readers.items():
        _quantize(together, ranges[name])
    use_microsoft(model)
    save_model(model, out)


def find_ranges(
    source: Path, names: Sequence[str], calibration: Sequence[Arrays], custom_ops: Sequence[str] = ()
) -> Mapping[str, Ranges]:
    """The ranges of tensors of a graph over the calibration data, channel by channel of their last axis."""
    if not names:
        return {}  # ONNX Runtime takes no names for those of all outputs
    session = open_inside(source, names, custom_ops)
    wanted = {value.name for value in session.get_inputs()}
    found: dict[str, Ranges] = {}
    for inputs in calibration:
        for name, low, high in _extremes(session, names, {key: inputs[key] for key in wanted & inputs.keys()}):
            known = found.get(name)
            found[name] = Ranges(
                lowest=np.minimum(known.lowest, low) if known else low,
                highest=np.maximum(known.highest, high) if known else high,
            )
    for name in names:
        if name not in found:
            raise OptimizeError("the calibration data has no values", where=name, hint="give it rows")
    for name, ranges in found.items():
        if not np.isfinite([ranges.lowest, ranges.highest]).all():
            raise OptimizeError("on the calibration data values are not finite", where=name)
    return found


def _extremes(
    session: ort.InferenceSession, names: Sequence[str], inputs: Arrays
) -> Iterator[tuple[str, Floats, Floats]]:
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4  # what fails is raised, and said once
    try:
        results = session.run(list(names), dict(inputs), quiet)
    except Exception as error:
        raise OptimizeError(
            f"the graph does not run on the calibration data: {first_line(error)}",
            hint="give it all inputs of the graph, in its dtypes",
        ) from error
    for name, values in zip(names, results, strict=True):
        rows = values.reshape(-1, values.shape[-1])
        if rows.size:
            yield name, rows.min(axis=0), rows.max(axis=0)


def _quantize(layers: Sequence[LinearLayer], ranges: Ranges) -> None:
    """Quantize what several layers read, once, and their weights."""
    value = layers[0].node.inputs[0]
    require_finite(layers)
    weights = np.max([np.abs(layer.matrix()).max(axis=1) for layer in layers], axis=0)
    inverse = np.asarray(1 / even_factors(ranges.widest(), weights), np.float32)
    first, name = layers[0], f"{value.name}/{layers[0].name}"
    lowest, highest = min(0.0, *(ranges.lowest * inverse)), max(0.0, *(ranges.highest * inverse))
    scale = np.float32(max((highest - lowest) / 255, _TINY))
    zero = np.uint8(np.rint(-lowest / scale))
    smooth = ir.node("Mul", [value, add_constant(first.weight, f"{name}/smoothing", inverse)], name=f"{name}/smooth")
    grid = [
        add_constant(first.weight, f"{name}/{part}", np.array(number))
        for part, number in (("scale", scale), ("zero_point", zero))
    ]
    quantize = ir.node("QuantizeLinear", [smooth.outputs[0], *grid], name=f"{name}/quantize")
    for node, dtype in ((smooth, "FLOAT"), (quantize, "UINT8")):
        node.outputs[0].name, node.outputs[0].dtype = f"{node.name}d", ir.DataType[dtype]
        node.outputs[0].shape = value.shape
        node.metadata_props.update(first.node.metadata_props)
        assert first.node.graph is not None
        first.node.graph.insert_before(first.node, node)
    for layer in layers:
        _replace(layer, [quantize.outputs[0], *grid], inverse)


def _replace(layer: LinearLayer, read: Sequence[ir.Value], inverse: Floats) -> None:
    """Multiply what is `read`, with its scale and zero point, by the weights in 8 bits."""
    integers, scales = quantized(layer.matrix() / inverse[:, None])
    parts = {"quantized": integers, "scale": scales, "zero_point": np.zeros(len(scales), np.int8)}
    weight, steps, middle = (
        add_constant(layer.weight, f"{layer.name}/weight.{part}", values) for part, values in parts.items()
    )
    values, scale, zero = read
    inputs, name = [values, weight, scale, steps, zero, middle], layer.node.name or layer.name
    product = ir.node("MatMulIntegerToFloat", inputs, domain="com.microsoft", name=name)
    nodes = [product]
    if layer.bias is not None:
        nodes.append(ir.node("Add", [product.outputs[0], layer.bias], name=f"{name}/bias"))
        product.outputs[0].name, product.outputs[0].dtype = f"{layer.name}/product", ir.DataType.FLOAT
    replace_node(layer.node, nodes)
