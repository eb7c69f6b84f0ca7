"""torch.onnx's dynamo exporter: in memory, written once, every node tagged with its module."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript import version_converter

from modelbuild.errors import ExportError, first_line
from modelbuild.graph import MODEL_FILE, WEIGHTS_FILE
from modelbuild.graph_source import OwnGraph
from modelbuild.samples import limits_of
from modelbuild.tasks import Task

OLDEST_NATIVE_OPSET = 18
# Sizes that an exported graph must hold for. torch.export treats 0 and 1 apart, so that 2 is its smallest; that 1 is
# right as well is for validation to say.
_SMALLEST, _LARGEST_BATCH = 2, 1 << 16
_STACK_TRACE = "pkg.torch.onnx.stack_trace"


def export(
    model: torch.nn.Module,
    task: Task,
    inputs: Mapping[str, npt.NDArray[Any]],
    opset: int,
    own: OwnGraph | None,
    out: Path,
) -> None:
    """Export `model` with symbolic batch and sequence axes, and write it once, weights beside it.

    The exporter speaks opset 18 and newer; older ones are converted by ONNX's version converter, and refused if it
    fails.
    """
    for chatty in ("torch.onnx", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    graph = _capture(model, inputs, max(opset, OLDEST_NATIVE_OPSET))
    _keep_outputs(graph, task)
    if opset < OLDEST_NATIVE_OPSET:
        graph = _converted(graph, opset)
    reached = graph.opset_imports.get("")
    if reached != opset:
        raise ExportError(f"the exporter gave opset {reached} where {opset} was asked", hint="choose another opset")
    _forget_source_lines(graph)
    ir.save(graph, out / MODEL_FILE, external_data=WEIGHTS_FILE)


def _capture(model: torch.nn.Module, inputs: Mapping[str, npt.NDArray[Any]], opset: int) -> ir.Model:
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    names = _output_names(model, tensors)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    try:
        program = torch.onnx.export(
            model,
            (),
            kwargs=tensors,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dict.fromkeys(tensors, axes),
            input_names=list(tensors),
            output_names=names,
            verbose=False,
        )
    except Exception as error:
        raise ExportError(
            f"torch.onnx.export failed: {first_line(error)}",
            where=type(model).__name__,
            hint="try exporter=optimum",
        ) from error
    if program is None:
        raise ExportError("torch.onnx.export gave nothing", where=type(model).__name__)
    _require_all_sizes(model, program.exported_program, next(iter(tensors)))
    return program.model


def _output_names(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """What the model calls its outputs, in its order. Raises ExportError when it does not run, or has no names."""
    name = type(model).__name__
    try:
        with torch.inference_mode():
            result = model(**tensors)
    except Exception as error:
        raise ExportError(
            f"PyTorch cannot run it on a batch: {first_line(error)}",
            where=name,
            hint="correct its config.json (a classifier that is a decoder needs pad_token_id)",
        ) from error
    if not isinstance(result, Mapping):
        hint = "remove return_dict from its config.json"
        raise ExportError(f"its outputs have no names: it gives a {type(result).__name__}", where=name, hint=hint)
    return list(result)


def _require_all_sizes(model: torch.nn.Module, program: torch.export.ExportedProgram, name: str) -> None:
    """Raise ExportError when the model took a branch on the size of its inputs.

    torch.onnx drops the guards of such a branch without a word. What is left of them is the range of sizes for which
    the program holds.
    """
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder" and node.name == name]
    wanted = {"batch": _LARGEST_BATCH, "sequence": limits_of(model.config).max_positions}
    for (axis, largest), size in zip(wanted.items(), placeholders[0].meta["val"].shape, strict=True):
        held = None if isinstance(size, int) else program.range_constraints.get(size.node.expr)
        if isinstance(size, int):
            problem = f"{axis} was taken for the constant {size}"
        elif held and (held.lower > _SMALLEST or held.upper < largest):
            sizes = f"{held.lower} to {held.upper}" if held.upper < largest else f"{held.lower} and more"
            problem = f"the model branches on {axis}: what was exported holds for {sizes} only"
        else:
            continue
        raise ExportError(
            problem,
            where=type(model).__name__,
            hint="remove the branch from forward, or make it one on values (torch.where, torch.cond)",
        )


def _keep_outputs(graph: ir.Model, task: Task) -> None:
    """Keep the outputs of the task, in its order, and drop the nodes that only the others needed."""
    by_name = {value.name: value for value in graph.graph.outputs}
    absent = [name for name in task.outputs if name not in by_name]
    if absent:
        raise ExportError(f"the model has no output {', '.join(absent)}", hint=f"it has {', '.join(map(str, by_name))}")
    graph.graph.outputs[:] = [by_name[name] for name in task.outputs]
    RemoveUnusedNodesPass()(graph)


def _converted(graph: ir.Model, opset: int) -> ir.Model:
    """`graph` at an older opset. The converter drops metadata, so each node gets its own back, by name."""
    _slice_splits(graph)
    metadata = {node.name: dict(node.metadata_props) for node in graph.graph}
    version_converter.convert_version(graph, target_version=opset, fallback=True)
    for node in graph.graph:
        node.metadata_props.update(metadata.get(node.name, {}))
    return graph


def _slice_splits(graph: ir.Model) -> None:
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


def _forget_source_lines(graph: ir.Model) -> None:
    """Drop the Python stack traces on nodes: they are paths of this machine, and change when nothing else does."""
    for node in ir.traversal.RecursiveGraphIterator(graph.graph):
        node.metadata_props.pop(_STACK_TRACE, None)
