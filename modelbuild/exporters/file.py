"""A graph that was exported elsewhere, made to look as if it had been exported here: names and order, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.external_data import convert_tensors_from_external
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelbuild.component import Component
from modelbuild.errors import ExportError, PackageError, first_line
from modelbuild.graph import data_file
from modelbuild.graph_source import OwnGraph, verify_graph
from modelbuild.interface import Interface
from modelbuild.runtime.session import SEE_MESSAGE, SessionSettings, open_session
from modelbuild.samples import Batch
from modelbuild.source_lines import every_node, forget_source_lines
from modelbuild.suggest import did_you_mean
from modelbuild.tagging import tag_exported
from modelbuild.tasks import Task

# How ONNX Runtime says what it would have taken, and what the file calls it.
_LIMITS = {"opset": r"domain ai\.onnx is till opset (\d+)", "IR version": r"max supported IR version: (\d+)"}


def export(
    component: Component, task: Task, traced: Batch, opset: int, own: OwnGraph | None, out: Path
) -> dict[str, Any]:
    """Write the graph that is brought along with the interface's names for inputs, outputs and axes, and inputs in its
    order. Of its outputs those of the interface are kept, and of its nodes those that lead to them. Nodes that do not
    say which module they come from are tagged as far as that can be told.

    Raises ExportError when names or dtypes of inputs and outputs do not fit, or the installed ONNX Runtime cannot open
    it.
    """
    assert own is not None  # the stage has it for this exporter
    verify_graph(own)
    graph = _read(own.path)
    _take_inputs(graph, own, component.interface)
    _take_outputs(graph, own, component.interface)
    _name_axes(graph, component.interface)
    forget_source_lines(graph)
    ir.save(graph, out, external_data=data_file(out.name))
    tag_exported(out, component.module.model)
    _require_opens(graph, own, out)
    return {}


def _read(path: Path) -> ir.Model:
    """The model, with all its weights within reach: onnx_ir writes those of attributes only when they are in memory."""
    try:
        graph = ir.load(path)
        for node in every_node(graph):
            for name, attribute in node.attributes.items():
                if isinstance(attribute.value, ir.ExternalTensor):
                    attribute.value.base_dir = path.parent  # onnx_ir knows it for the graph, and not for functions
                    (loaded,) = convert_tensors_from_external([attribute.value])
                    node.attributes[name] = ir.AttrTensor(name, loaded)
    except Exception as error:
        raise ExportError(f"onnx_ir cannot read it: {first_line(error)}", where=str(path)) from error
    if "ai.onnx" in graph.opset_imports:
        graph.opset_imports[""] = graph.opset_imports.pop("ai.onnx")
    return graph


def _take_inputs(graph: ir.Model, own: OwnGraph, interface: Interface) -> None:
    """Name and order the inputs; weights that are inputs too, as in old files, come after them."""
    weights = [value for value in graph.graph.inputs if value.is_initializer()]
    given = [value for value in graph.graph.inputs if not value.is_initializer()]
    present, mapping = {value.name for value in given}, own.files.inputs
    inputs = {value.name: value for value in interface.inputs}
    names = [name for name in inputs if name in present or name in mapping or not inputs[name].optional]
    chosen = _chosen(given, names, mapping, "input", own.path)
    for name in (value.name for value in given if value not in chosen):
        raise ExportError(
            f"the graph also takes '{name}', which the model does not",
            where=str(own.path),
            hint=f"the model takes {', '.join(inputs)}; export it with these alone",
        )
    for value, name in zip(chosen, names, strict=True):
        dtype = inputs[name].dtype
        if value.dtype is None or value.dtype.numpy() != np.dtype(dtype):
            raise ExportError(
                f"{name} is {value.dtype.numpy() if value.dtype else 'of no type'} in the graph, not {dtype}",
                where=str(own.path),
                hint=f"export it with {dtype} inputs",
            )
    graph.graph.inputs[:] = [*chosen, *weights]
    _rename(graph, chosen, names)


def _take_outputs(graph: ir.Model, own: OwnGraph, interface: Interface) -> None:
    names = interface.output_names()
    chosen = _chosen(list(graph.graph.outputs), names, own.files.outputs, "output", own.path)
    dropped = len(graph.graph.outputs) > len(chosen)
    graph.graph.outputs[:] = chosen
    _rename(graph, chosen, names)
    if dropped:
        RemoveUnusedNodesPass()(graph)


def _chosen(
    values: Sequence[ir.Value], names: Sequence[str], mapping: Mapping[str, str], what: str, path: Path
) -> list[ir.Value]:
    """The value for each of `names`: the one that `mapping` says, else the one of that name. Each is taken once."""
    for name in mapping:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ExportError(f"the model has no {what} '{name}'", where=f"exporter.{what}s", hint=hint)
    found = {value.name: value for value in values}
    taken: dict[str, str] = {}
    for name in names:
        wanted = mapping.get(name, name)
        if wanted not in found:
            free = [other for other in found if other is not None and other not in mapping.values()]
            hint = did_you_mean(wanted, free) or f"it has {', '.join(free)}"
            hint += "" if name in mapping else f" (say so with exporter.{what}s.{name}=…)"
            raise ExportError(f"the graph has no {what} '{wanted}'", where=str(path), hint=hint)
        if wanted in taken:
            raise ExportError(
                f"{taken[wanted]} and {name} cannot both be '{wanted}'",
                where=f"exporter.{what}s",
                hint=f"say what {name} is called",
            )
        taken[wanted] = name
    return [found[name] for name in taken]


def _rename(graph: ir.Model, values: Sequence[ir.Value], names: Sequence[str]) -> None:
    """Give `values` their `names`; a value inside the graph that has one of them already gets another."""
    used = {value.name for value in _values(graph)}
    for value in [value for value in _values(graph) if value.name in names and value not in values]:
        value.name = next(f"{value.name}.{n}" for n in range(1, len(used) + 2) if f"{value.name}.{n}" not in used)
        used.add(value.name)
    for value, name in zip(values, names, strict=True):
        value.name = name


def _values(graph: ir.Model) -> Iterator[ir.Value]:
    """Every value that has a name, once: inputs, weights and what nodes give, in subgraphs too."""
    found = dict.fromkeys(graph.graph.inputs)
    for body in graph.graphs():
        found |= dict.fromkeys([*body.inputs, *body.initializers.values()])
        found |= dict.fromkeys(output for node in body for output in node.outputs)
    return iter(found)


def _name_axes(graph: ir.Model, interface: Interface) -> None:
    """Call the symbolic axes of inputs and outputs as the interface does, by their place. A symbol keeps one meaning
    in the whole graph; one that would get two names, or a name that another has, stays, and validation refuses it.
    """
    shapes = {value.name: value.shape for value in interface.inputs}
    shapes |= {value.name: value.shape for value in interface.outputs}
    ours = [*(value for value in graph.graph.inputs if not value.is_initializer()), *graph.graph.outputs]
    places = {value: shapes[str(value.name)] for value in ours}
    names = _names_of_symbols(places)
    # Inside, shapes are hints: where one has a name already that is now taken, nobody knows that it is the same axis.
    taken: dict[str, str | None] = dict.fromkeys(axis.name for axis in interface.axes if axis.name in names.values())
    inside = taken | names
    for value in _values(graph):
        if value.shape is not None:
            value.shape = _named(value.shape, names if value in places else inside, places.get(value, ()))


def _names_of_symbols(places: Mapping[ir.Value, Sequence[int | str]]) -> dict[str, str | None]:
    wanted: dict[str, set[str]] = {}
    for value, axes in places.items():
        for symbol, axis in zip(_symbols(value), axes, strict=False):
            if symbol and isinstance(axis, str):
                wanted.setdefault(symbol, set()).add(axis)
    others = {symbol for value in places for symbol in _symbols(value) if symbol} - set(wanted)
    return {symbol: next(iter(axes)) for symbol, axes in wanted.items() if len(axes) == 1 and not axes & others}


def _symbols(value: ir.Value) -> list[str | None]:
    """For each axis its symbol; None where it has a size, or neither."""
    axes = value.shape or ()
    return [axis.value if isinstance(axis, ir.SymbolicDim) else None for axis in axes]


def _named(shape: ir.Shape, names: Mapping[str, str | None], anonymous: Sequence[int | str]) -> ir.Shape:
    """`shape` with its symbols renamed, and axes without size and symbol called as in `anonymous`, by place."""
    axes: list[int | str | None] = []
    for place, axis in enumerate(shape):
        symbol = axis.value if isinstance(axis, ir.SymbolicDim) else axis
        default = anonymous[place] if place < len(anonymous) else None
        axes.append(default if symbol is None else names.get(symbol, symbol) if isinstance(symbol, str) else symbol)
    return ir.Shape(axes)


def _require_opens(graph: ir.Model, own: OwnGraph, written: Path) -> None:
    """Ask the installed ONNX Runtime itself whether it takes the opset, the IR version and the operators."""
    settings = SessionSettings(graph_optimization_level="none", custom_ops=own.custom_ops)
    try:
        open_session(written, providers=[("cpu", {})], settings=settings)
    except PackageError as error:
        has = {"opset": graph.opset_imports[""], "IR version": graph.ir_version}
        for what, pattern in _LIMITS.items():
            if limit := re.search(pattern, str(error)):
                raise ExportError(
                    f"the file has {what} {has[what]}, and onnxruntime {ort.__version__} takes {limit[1]} at most",
                    where=str(own.path),
                    hint=f"upgrade onnxruntime, or export it anew at an older {what}",
                ) from error
        problem = error.problems[0]
        hint = "export it again" if problem.hint == SEE_MESSAGE else problem.hint
        raise ExportError(problem.what, where=str(own.path), hint=hint) from error
