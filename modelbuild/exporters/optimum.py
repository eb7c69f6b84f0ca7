"""Optimum's exporter: TorchScript, with Optimum's patches for the families it knows."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from optimum.exporters.onnx import onnx_export_from_model

from modelbuild.component import Component
from modelbuild.errors import ExportError, first_line
from modelbuild.graph import MODEL_FILE, data_file
from modelbuild.graph_source import OwnGraph
from modelbuild.samples import Batch
from modelbuild.tagging import tag_exported
from modelbuild.tasks import OPTIONAL_INPUTS, Task

_AXIS_NAMES = {"batch_size": "batch", "sequence_length": "sequence", "num_choices": "choices"}


def export(
    component: Component, task: Task, traced: Batch, opset: int, own: OwnGraph | None, out: Path
) -> dict[str, Any]:
    """Export the model as `optimum-cli export onnx` would, without its own validation, which only warns.

    Optimum makes its own inputs to trace with; those of `traced` give the names and their order, which are checked.
    Nodes are tagged by the scopes in their names, as far as these go (see `scopes`).
    """
    if any(axis.kind == "past" for axis in component.interface.axes):
        raise ExportError(
            "exporter=optimum exports no graph with a cache", where=task.name, hint="choose exporter=dynamo"
        )
    logging.getLogger("optimum").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".optimum.") as scratch:
        with warnings.catch_warnings():  # of the tracer, about branches in code that is not ours; validation finds them
            warnings.simplefilter("ignore")
            graph = _exported(component.module.model, task, opset, Path(scratch))
        _order_inputs(graph, list(traced.inputs), type(component.module.model).__name__)
        _name_axes(graph)
        ir.save(graph, out, external_data=data_file(out.name))
    tag_exported(out, component.module.model)
    return {}


def _exported(model: torch.nn.Module, task: Task, opset: int, scratch: Path) -> ir.Model:
    try:
        onnx_export_from_model(
            model, scratch, opset=opset, task=task.name, do_validation=False, device="cpu", monolith=True
        )
    except Exception as error:
        raise ExportError(
            f"Optimum's export failed: {first_line(error)}", where=type(model).__name__, hint="try exporter=dynamo"
        ) from error
    return ir.load(scratch / MODEL_FILE)


def _order_inputs(graph: ir.Model, names: list[str], model: str) -> None:
    found = {value.name: value for value in graph.graph.inputs}
    if not set(names) - OPTIONAL_INPUTS <= set(found) <= set(names):
        raise ExportError(
            f"Optimum's graph takes {', '.join(map(str, found))}",
            where=model,
            hint=f"it should take {', '.join(names)}; try exporter=dynamo",
        )
    graph.graph.inputs[:] = [found[name] for name in names if name in found]


def _name_axes(graph: ir.Model) -> None:
    """Call symbolic axes as the other exporter does, so that one package looks like another."""
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if value.shape is not None:
            axes = [axis.value if isinstance(axis, ir.SymbolicDim) else axis for axis in value.shape]
            value.shape = ir.Shape([_AXIS_NAMES.get(axis, axis) if isinstance(axis, str) else axis for axis in axes])
