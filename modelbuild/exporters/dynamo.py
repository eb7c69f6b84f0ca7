"""torch.onnx's dynamo exporter: in memory, written once, every node tagged with its module."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript import version_converter

from modelbuild.capture.translate import Call, Translation, capture, translate
from modelbuild.component import Component
from modelbuild.errors import ExportError, first_line
from modelbuild.graph import data_file
from modelbuild.graph_source import OwnGraph
from modelbuild.interface import Axis, Interface
from modelbuild.mapped_weights import release
from modelbuild.node_tags import CLASSES_KEY, SCOPES_KEY, read_names
from modelbuild.samples import Batch
from modelbuild.sizes import UNLIMITED
from modelbuild.source_lines import forget_source_lines
from modelbuild.split_slices import slice_splits
from modelbuild.tagging import tag_exported
from modelbuild.tasks import Task

OLDEST_NATIVE_OPSET = 18
# Sizes that an exported graph must hold for. torch.export treats 0 and 1 apart, so that 2 is its smallest; that 1 is
# right as well is for validation to say.
_SMALLEST, _LARGEST_BATCH = 2, 1 << 16
# Weights are transposed as they are written, and hashed by nobody: two at a time keep a disk busy.
_WRITERS, _IN_FLIGHT_BYTES = 2, 64 << 20
_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


def export(
    component: Component, task: Task, traced: Batch, opset: int, own: OwnGraph | None, out: Path
) -> dict[str, Any]:
    """Export `component` with the symbolic axes of its interface, and write it once, weights beside it.

    The exporter speaks opset 18 and newer; older ones are converted by ONNX's version converter, and refused if it
    fails.
    """
    for chatty in ("torch.onnx", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    translation = _capture(component, task, traced, max(opset, OLDEST_NATIVE_OPSET))
    graph = translation.graph
    _name_axes(graph, component.interface)
    RemoveUnusedNodesPass()(graph)
    if opset < OLDEST_NATIVE_OPSET:
        graph = _converted(graph, opset)
    reached = graph.opset_imports.get("")
    if reached != opset:
        raise ExportError(f"the exporter gave opset {reached} where {opset} was asked", hint="choose another opset")
    forget_source_lines(graph)
    _tag_from_the_model(graph)
    _write(graph, out)
    tag_exported(out, component.module.model)
    return _said(component, translation)


def _said(component: Component, translation: Translation) -> dict[str, Any]:
    """How often the model was traced, for the report; and why twice, for the log."""
    if translation.retraced_for:
        print(f"{component.name}: traced a second time, to replace {translation.retraced_for}")
    return {"traces": 2 if translation.retraced_for else 1}


def _write(graph: ir.Model, out: Path) -> None:
    """Save `graph`, its weights beside it, and give back what was read of them on the way."""
    written = 0

    def on_tensor(tensor: ir.TensorProtocol, _: Any) -> None:
        nonlocal written
        written += tensor.nbytes
        if written > _IN_FLIGHT_BYTES:
            written = 0
            release()

    for value in graph.graph.initializers.values():
        value.const_value = _in_order(value.const_value)
    name = data_file(out.name)
    ir.save(
        graph, out, external_data=name, max_workers=_WRITERS, max_in_flight_bytes=_IN_FLIGHT_BYTES, callback=on_tensor
    )


def _in_order(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """A transposed tensor as one that is put in order when it is written; numpy would write number by number."""
    array = getattr(tensor, "raw", None)
    if tensor is None or not isinstance(array, np.ndarray) or array.flags.c_contiguous:
        return tensor
    return ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(array)), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name
    )


def _capture(component: Component, task: Task, traced: Batch, opset: int) -> Translation:
    tensors = {name: torch.from_numpy(array) for name, array in traced.inputs.items()}
    try:
        call = Call(tensors=tensors, shapes=_dynamic_shapes(component.interface))
        program = capture(component.module, call)
        translation = translate(program, call, opset, program.call_spec.out_spec.context)
    except Exception as error:
        _require_eager(component, tensors)
        raise _refused(error, component, task) from error
    _require_all_sizes(type(component.module.model).__name__, translation.program, component)
    return translation


def _refused(error: Exception, component: Component, task: Task) -> ExportError:
    """What torch says at the bottom of a chain of errors whose top is advice; with the line of the model, if known."""
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    model = type(component.module.model)
    file = getattr(sys.modules.get(model.__module__), "__file__", None)
    frames = [frame for frame in traceback.extract_tb(chain[-1].__traceback__) if frame.filename == file]
    where = (
        f"{model.__name__} ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else model.__name__
    )
    if type(chain[-1]).__name__ == "GuardOnDataDependentSymNode":
        hint = "compute both ways and choose with torch.where, or use torch.cond"
        return ExportError("forward branches on what is in its inputs, which a graph cannot", where=where, hint=hint)
    if missing := _NO_OPERATOR.search(str(chain[-1])):
        hint = "write it with other operations"
        return ExportError(f"ONNX has no operator for {missing[1]}", where=where, hint=hint)
    hint = "correct forward; --debug shows more" if task.family == "module" else "try exporter=optimum"
    return ExportError(f"torch.onnx.export failed: {first_line(chain[-1])}", where=where, hint=hint)


def _require_eager(component: Component, tensors: dict[str, torch.Tensor]) -> None:
    """Raise ExportError when the model does not run: then it is no fault of the exporter."""
    try:
        with torch.inference_mode():
            component.module(tensors)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"PyTorch cannot run it on a batch: {first_line(error)}",
            where=type(component.module.model).__name__,
            hint="correct its config.json (a classifier that is a decoder needs pad_token_id)",
        ) from error


def _dynamic_shapes(interface: Interface) -> dict[str, dict[int, Any]]:
    """The symbolic axes of each input. One that is the sum of others has no size of its own to torch."""
    sums = {axis.name for axis in interface.axes_of("sum")}
    dims: dict[str, Any] = {
        axis.name: torch.export.Dim.DYNAMIC if axis.name in sums else _in_steps(axis) for axis in interface.axes
    }
    return {
        value.name: {place: dims[axis] for place, axis in enumerate(value.shape) if isinstance(axis, str)}
        for value in interface.inputs
    }


def _in_steps(axis: Axis) -> Any:
    """A symbolic size, or a symbolic number of steps times the step."""
    if axis.step > 1:
        return axis.step * torch.export.Dim(f"{axis.name}_steps")
    return torch.export.Dim(axis.name, min=axis.smallest if axis.smallest > _SMALLEST else None)


def _held(program: torch.export.ExportedProgram, size: Any, step: int) -> Any:
    """The range of sizes, or of steps, that the program holds for; None where nobody knows."""
    return program.range_constraints.get(size if step == 1 else next(iter(size.free_symbols), None))


def _require_all_sizes(name: str, program: torch.export.ExportedProgram, component: Component) -> None:
    """Raise ExportError when the model took a branch on the size of its inputs, other than those that are known to
    change no number.

    torch.onnx drops the guards of such a branch without a word. What is left of them is the range of sizes for which
    the program holds.
    """
    interface = component.interface
    placeholders = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    for value, node in zip(interface.inputs, placeholders, strict=True):
        for axis, size in zip(value.shape, node.meta["val"].shape, strict=True):
            if isinstance(axis, str):
                wanted = _sizes_to_hold(interface.axis(axis), component.branches.get(axis))
                _require_sizes(name, program, interface.axis(axis), size, wanted)


def _sizes_to_hold(axis: Axis, branch: int | None) -> tuple[int, int]:
    """The smallest and the largest size, in steps, that must be right; the size of a known `branch` is validated."""
    tried = UNLIMITED if axis.kind in ("length", "past") else 0
    largest = axis.largest or (_LARGEST_BATCH if axis.kind == "batch" else tried)
    largest = largest if branch is None else min(largest, branch - 1)
    return max(_SMALLEST, max(_SMALLEST, axis.smallest) // axis.step), largest // axis.step


def _require_sizes(
    name: str, program: torch.export.ExportedProgram, axis: Axis, size: Any, wanted: tuple[int, int]
) -> None:
    """Raise ExportError unless `size`, which the program has for `axis`, stands for every size that is wanted."""
    hint = "remove the branch from forward, or make it one on values (torch.where, torch.cond)"
    if isinstance(size, int):
        problem = f"{axis.name} was taken for the constant {size}"
        hint = "forward takes it for a number (in a loop, int() or a branch): use operations on tensors instead"
        raise ExportError(problem, where=name, hint=hint)
    held = _held(program, size.node.expr, axis.step)
    if held is None and axis.kind != "sum":  # what a sum is made of is looked at itself
        problem = f"the sizes of {axis.name} that it holds for are not known: it is {size.node.expr}"
        raise ExportError(problem, where=name, hint=hint)
    if held is not None and (held.lower > wanted[0] or held.upper < wanted[1]):
        sizes = f"{held.lower} to {held.upper}" if held.upper < wanted[1] else f"{held.lower} and more"
        problem = f"the model branches on {axis.name}: what was exported holds for {sizes} only"
        raise ExportError(problem, where=name, hint=hint)


def _name_axes(graph: ir.Model, interface: Interface) -> None:
    """Call the axes of inputs and outputs as the interface does; torch has names of its own for sums."""
    shapes: dict[str | None, tuple[int | str, ...]] = {value.name: value.shape for value in interface.inputs}
    shapes |= {value.name: value.shape for value in interface.outputs}
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([*shapes[value.name], *list(value.shape)[len(shapes[value.name]) :]])


def _tag_from_the_model(graph: ir.Model) -> None:
    """Say of each node in which module of the model it is, and not in which of our module around the model."""
    for node in ir.traversal.RecursiveGraphIterator(graph.graph):
        if SCOPES_KEY in node.metadata_props:
            scopes = read_names(node.metadata_props[SCOPES_KEY])
            paths = ["" if path == "model" else path.removeprefix("model.") for path in scopes[:-1]]
            around = paths[:2] == ["", ""]
            node.metadata_props[SCOPES_KEY] = repr([*paths[around:], scopes[-1]])
            classes = read_names(node.metadata_props[CLASSES_KEY])
            node.metadata_props[CLASSES_KEY] = repr(list(classes[around:]))


def _converted(graph: ir.Model, opset: int) -> ir.Model:
    """`graph` at an older opset. The converter drops metadata, so each node gets its own back, by name."""
    slice_splits(graph)
    metadata = {node.name: dict(node.metadata_props) for node in graph.graph}
    version_converter.convert_version(graph, target_version=opset, fallback=True)
    for node in graph.graph:
        node.metadata_props.update(metadata.get(node.name, {}))
    return graph
