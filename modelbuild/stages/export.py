"""export: PyTorch to ONNX, or a graph that was exported elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from modelbuild.component import Component
from modelbuild.errors import ExportError
from modelbuild.exporters import EXPORTERS, Exporter
from modelbuild.families.split import components_of
from modelbuild.graph import GraphFacts, read_graph
from modelbuild.graph_source import OwnGraph
from modelbuild.interface import Interface
from modelbuild.operator_libraries import verified_libraries
from modelbuild.reference import load_original
from modelbuild.report import Report
from modelbuild.samples import Batch, sample
from modelbuild.signature import signature_to_dict
from modelbuild.sizes import typical_sizes
from modelbuild.stage_spec import ExportSpec, GraphFiles
from modelbuild.tagging import read_hierarchy
from modelbuild.tasks import TASKS

# Sizes to trace with: distinct primes, so that an axis that was taken for a constant shows.
_TRACE_BATCH, _TRACE_LENGTH, _TRACE_PAST = 3, 7, 11
# Where each exporter's nodes say which module they come from.
_STRATEGIES = {"dynamo": "dynamo", "optimum": "torchscript", "file": "file"}
# How many tensors of the checkpoint that the model has no place for are named in the report.
_KEYS_SHOWN = 20


def run(spec: ExportSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Export every graph of the model with the asked exporter at the asked opset. Raises ExportError when what comes
    out is not that.
    """
    task = TASKS[spec.task]
    original = load_original(spec.model, task, inputs.get("source"), inputs.get("weights"), scratch=out)
    components = components_of(original.module, task)
    own = _own_graph(spec, inputs)
    if len(components) > 1 and spec.exporter.kind != "dynamo":
        raise ExportError(
            f"exporter={spec.exporter.kind} makes one graph, and {task.name} needs {len(components)}",
            where=type(original.module).__name__,
            hint="choose exporter=dynamo",
        )
    opset = _opset(spec, own)
    exporter = cast(Exporter, importlib.import_module(EXPORTERS[spec.exporter.kind]))
    facts = {}
    for component in components:
        path = out / component.file
        path.parent.mkdir(parents=True, exist_ok=True)
        said = exporter.export(component, task, traced_batch(component.interface), opset, own, path)
        facts[component.name] = _facts(component, path, opset) | said
        hierarchy = read_hierarchy(path, _STRATEGIES[spec.exporter.kind], component.module.model)
        facts[component.name]["hierarchy"] = hierarchy.facts()
    return Report(
        stage="export",
        facts={
            "exporter": spec.exporter.kind,
            "unexpected_keys": list(original.unexpected_keys[:_KEYS_SHOWN]),
            "unexpected_keys_count": len(original.unexpected_keys),
            "components": facts,
        },
    )


def traced_batch(interface: Interface) -> Batch:
    """The inputs to trace with: padded on the right, the cache longer than what is new."""
    sizes = typical_sizes(interface, batch=_TRACE_BATCH, length=_TRACE_LENGTH, past=_TRACE_PAST, turn=2)
    return sample(interface, sizes, mask="right", rng=np.random.default_rng(0))


def _facts(component: Component, path: Path, opset: int) -> dict[str, Any]:
    graph = read_graph(path)
    interface = component.interface.taking(graph.signature.input_names())
    _require_contract(graph, component, interface, opset)
    config: Any = getattr(component.module.model, "config", None)
    return {
        "file": component.file,
        "interface": interface.model_dump(mode="json"),
        "signature": signature_to_dict(graph.signature),
        "opsets": dict(graph.opsets),
        "ir_version": graph.ir_version,
        "operators": dict(graph.operators),
        "architecture": {
            "model_type": getattr(config, "model_type", None),
            "hidden_size": getattr(config, "hidden_size", None),
            "num_attention_heads": getattr(config, "num_attention_heads", None),
            "num_hidden_layers": component.attention_layers,
        },
    }


def _own_graph(spec: ExportSpec, inputs: Mapping[str, Path]) -> OwnGraph | None:
    if not isinstance(spec.exporter, GraphFiles):
        return None
    if "graph" not in inputs:
        raise ExportError("the file of exporter=file is not known", hint="run the build again")
    libraries = verified_libraries(spec.custom_ops, inputs)
    return OwnGraph(path=inputs["graph"], files=spec.exporter, custom_ops=libraries)


def _opset(spec: ExportSpec, own: OwnGraph | None) -> int:
    """The opset that the graph shall have: the one that was asked for, or else the one that it has."""
    if spec.opset.version != "auto":
        return spec.opset.version
    if own is None:
        raise ExportError("opset=auto is for exporter=file", hint="choose a number")
    return read_graph(own.path).opsets[""]


def _require_contract(graph: GraphFacts, component: Component, interface: Interface, opset: int) -> None:
    found = graph.signature
    taken, wanted = found.input_names(), interface.input_names()
    if taken != wanted or found.output_names() != interface.output_names():
        raise ExportError(
            f"the exported graph takes {taken} and gives {found.output_names()}",
            where=component.name,
            hint=f"expected {wanted} and {interface.output_names()}",
        )
    if graph.opsets.get("") != opset:
        raise ExportError(f"the exported graph has opset {graph.opsets.get('')}, not {opset}", where=component.name)
