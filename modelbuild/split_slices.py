"""Slices in the place of Splits, for opsets older than the exporter speaks."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir


def slice_splits(graph: ir.Model) -> None:
    """Make slices of every Split into parts of known sizes: the converter has no way back from opset 18's."""
    for node in list(graph.graph):
        sizes = _sizes_of_parts(node) if node.op_type == "Split" else ()
        for number, end in enumerate(itertools.accumulate(sizes)):
            _slice_part(graph, node, number, end - sizes[number], end)
        if sizes:
            graph.graph.remove(node, safe=True)


def _sizes_of_parts(split: ir.Node) -> tuple[int, ...]:
    """How long each part is, or nothing where that depends on the input."""
    axis = split.attributes.get_int("axis", 0)
    sizes = [part.shape[axis] if part.shape is not None else None for part in split.outputs]
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if len(known) == len(sizes) else ()


def _slice_part(graph: ir.Model, split: ir.Node, number: int, start: int, end: int) -> None:
    """Put a Slice in the place of one part of a Split, under the part's name."""
    part = split.outputs[number]
    bounds = {"start": start, "end": end, "axis": split.attributes.get_int("axis", 0)}
    constants = [ir.tensor(np.array([value]), name=f"{part.name}_{bound}") for bound, value in bounds.items()]
    values = [ir.Value(name=constant.name, const_value=constant, shape=constant.shape) for constant in constants]
    for value in values:
        value.dtype = ir.DataType.INT64
        graph.graph.initializers.add(value)
    node = ir.node("Slice", [split.inputs[0], *values], name=f"{split.name}_part_{number}")
    node.metadata_props.update(split.metadata_props)
    graph.graph.insert_before(split, node)
    ir.convenience.replace_all_uses_with(part, node.outputs[0], replace_graph_outputs=True)
    node.outputs[0].shape, node.outputs[0].type = part.shape, part.type
    part.name, node.outputs[0].name = None, part.name
