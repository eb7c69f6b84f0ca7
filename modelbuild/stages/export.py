"""export: PyTorch to ONNX, or a graph that was exported elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from modelbuild.errors import ExportError
from modelbuild.exporters import EXPORTERS, Exporter
from modelbuild.graph import MODEL_FILE, GraphFacts, module_tree, read_graph
from modelbuild.graph_source import OwnGraph
from modelbuild.reference import input_names, load_original
from modelbuild.report import Report
from modelbuild.samples import limits_of, random_batch
from modelbuild.signature import signature_to_dict
from modelbuild.stage_spec import ExportSpec, GraphFiles
from modelbuild.tasks import OPTIONAL_INPUTS, TASKS, Task

SPEC = ExportSpec
REPORT: str | None = "report.json"

# Sizes to trace with: distinct primes, so that an axis that was taken for a constant shows.
_TRACE_BATCH, _TRACE_SEQUENCE = 3, 7
# How many tensors of the checkpoint that the model has no place for are named in the report.
_KEYS_SHOWN = 20


def run(spec: ExportSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Export the model with the asked exporter at the asked opset. Raises ExportError when what comes out is not
    that.
    """
    task = TASKS[spec.task]
    original = load_original(spec.model, task, inputs.get("source"))
    model = original.module
    names, limits = input_names(model, task), limits_of(model.config)
    rng = np.random.default_rng(0)
    traced = random_batch(
        names, limits, batch=_TRACE_BATCH, sequence=min(_TRACE_SEQUENCE, limits.max_positions), mask="right", rng=rng
    )
    own = _own_graph(spec, inputs)
    opset = _opset(spec, own)
    exporter = cast(Exporter, importlib.import_module(EXPORTERS[spec.exporter.kind]))
    exporter.export(model, task, traced.inputs, opset, own, out)
    graph = read_graph(out / MODEL_FILE)
    _require_contract(graph, task, names, opset)
    return Report(
        stage="export",
        facts={
            "exporter": spec.exporter.kind,
            "signature": signature_to_dict(graph.signature),
            "opsets": dict(graph.opsets),
            "ir_version": graph.ir_version,
            "operators": dict(graph.operators),
            "hierarchy": {
                "nodes": graph.nodes,
                "tagged_nodes": graph.tagged_nodes,
                "tagged_share": round(graph.tagged_nodes / max(1, graph.nodes), 4),
                "modules": module_tree(out / MODEL_FILE),
            },
            "architecture": {
                "model_type": model.config.model_type,
                "hidden_size": getattr(model.config, "hidden_size", None),
                "num_attention_heads": getattr(model.config, "num_attention_heads", None),
                "num_hidden_layers": _layers(model.config),
            },
            "unexpected_keys": list(original.unexpected_keys[:_KEYS_SHOWN]),
            "unexpected_keys_count": len(original.unexpected_keys),
            "limits": limits.facts(),
        },
    )


def _own_graph(spec: ExportSpec, inputs: Mapping[str, Path]) -> OwnGraph | None:
    if not isinstance(spec.exporter, GraphFiles):
        return None
    if "graph" not in inputs:
        raise ExportError("the file of exporter=file is not known", hint="run the build again")
    return OwnGraph(path=inputs["graph"], files=spec.exporter)


def _opset(spec: ExportSpec, own: OwnGraph | None) -> int:
    """The opset that the graph shall have: the one that was asked for, or else the one that it has."""
    if spec.opset.version != "auto":
        return spec.opset.version
    if own is None:
        raise ExportError("opset=auto is for exporter=file", hint="choose a number")
    return read_graph(own.path).opsets[""]


def _layers(config: Any) -> int | None:
    """How many layers a forward pass goes through; None where the config does not say.

    ALBERT's groups share weights, and each has `inner_group_num` layers.
    """
    layers = getattr(config, "num_hidden_layers", None)
    return layers if layers is None else int(layers) * int(getattr(config, "inner_group_num", 1))


def _require_contract(graph: GraphFacts, task: Task, names: tuple[str, ...], opset: int) -> None:
    found = graph.signature
    taken = found.input_names()
    wanted = tuple(name for name in names if name in taken or name not in OPTIONAL_INPUTS)
    if taken != wanted or found.output_names() != task.outputs:
        raise ExportError(
            f"the exported graph takes {taken} and gives {found.output_names()}",
            where=task.name,
            hint=f"expected {wanted} and {task.outputs}",
        )
    if graph.opsets.get("") != opset:
        raise ExportError(f"the exported graph has opset {graph.opsets.get('')}, not {opset}", where=task.name)
