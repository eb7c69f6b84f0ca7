"""optimize: the files that ship."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from modelbuild.errors import OptimizeError
from modelbuild.fusions.budget import attention_budget, fused_operators
from modelbuild.graph import GraphFacts, read_graph
from modelbuild.hierarchy import Hierarchy
from modelbuild.operator_libraries import verified_libraries
from modelbuild.optimization import ASKED, REDUCTION, SESSIONS, WAYS, Way
from modelbuild.optimization.job import Job, Reduce
from modelbuild.report import Check, Report, named_after, read_report
from modelbuild.signature import signature_to_dict
from modelbuild.spec import Optimization
from modelbuild.stage_spec import OptimizeSpec
from modelbuild.tagging import restore_tags, ship


def run(spec: OptimizeSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Optimize every exported graph as asked, or by a search, and reduce its precision. What comes out must load, keep
    its signature and match the exported graph.

    Raises OptimizeError otherwise, with the fusion that is to blame: what was asked for is never replaced by another
    in silence. Raises it too when every layer's attention must be fused and is not.
    """
    source, libraries = inputs["export"], verified_libraries(spec.custom_ops, inputs)
    exported: Mapping[str, Mapping[str, Any]] = read_report(source / "report.json").facts["components"]
    way = cast(Way, importlib.import_module(WAYS.get(spec.optimization.kind, ASKED)))
    checks: list[Check] = []
    components: dict[str, Any] = {}
    warnings: list[str] = []
    for name, facts in exported.items():
        target = out / facts["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        job = Job(
            kind=spec.optimization.kind,
            source=source / facts["file"],
            facts=facts,
            out=target,
            custom_ops=libraries,
            reduce=_reduction(spec, facts, inputs),
        )
        made = way.make(job, _share(spec, len(exported)))
        restore_tags(target, job.source)
        hierarchy = ship(Hierarchy.of_facts(facts["hierarchy"]), target)
        before, after = read_graph(job.source), read_graph(target)
        fusions, fused, warned = _fusions(spec.optimization, after, facts)
        checks += named_after(name if len(exported) > 1 else "", (made.check, *fusions))
        components[name] = _facts(before, after, facts) | fused | {"hierarchy": hierarchy.facts()}
        components[name] |= {"optimization": made.kind, **made.facts}
        warnings += [f"{name}: {text}" if len(exported) > 1 else text for text in warned]
    return Report(
        stage="optimize",
        checks=tuple(checks),
        facts={
            "optimization": spec.optimization.kind,
            "precision": spec.precision.kind,
            "attention_fusions": [
                f"{name}: {found['attention_fusions']}" if len(components) > 1 else found["attention_fusions"]
                for name, found in components.items()
                if "attention_fusions" in found
            ],
            "warnings": warnings,
            "components": components,
            **_session(spec, components, libraries, out),
        },
    )


def _share(spec: OptimizeSpec, graphs: int) -> OptimizeSpec:
    """The spec with the share that each of so many graphs has of the budget."""
    if spec.optimization.kind != "auto":
        return spec
    budget = spec.optimization.budget_s / graphs
    return spec.model_copy(update={"optimization": spec.optimization.model_copy(update={"budget_s": budget})})


def _reduction(spec: OptimizeSpec, facts: Mapping[str, Any], inputs: Mapping[str, Path]) -> Reduce | None:
    """What reduces the precision of one graph; None where it stays that of the original."""
    if spec.precision.kind == "fp32":
        return None
    reduction: Reduce = importlib.import_module(REDUCTION).reduction(spec, facts, inputs)
    return reduction


def _session(
    spec: OptimizeSpec, components: Mapping[str, Any], libraries: tuple[str, ...], out: Path
) -> dict[str, Any]:
    """The preset that is best for the graphs that ship, where that is to be found out."""
    if spec.timing is None or not spec.timing.session.auto:
        return {}
    return {"session": importlib.import_module(SESSIONS).best(spec.timing, components, libraries, out)}


def _fusions(
    optimization: Optimization, graph: GraphFacts, facts: Mapping[str, Any]
) -> tuple[tuple[Check, ...], dict[str, Any], list[str]]:
    """The fused operators, as facts; and for an optimization that promises fused attention, whether it kept that, as a
    check or a warning.

    A promise that was not kept is a warning, and no failed check: the file is right. Raises OptimizeError where the
    promise must be kept.
    """
    fused: dict[str, Any] = {"fusions": fused_operators(graph.operators)}
    if not optimization.promises_fusion or facts["architecture"].get("num_hidden_layers") == 0:
        return (), fused, []
    budget = attention_budget(graph.operators, facts["architecture"])
    fused["attention_fusions"] = budget.line()
    if budget.kept:
        return (budget.check(),), fused, []
    if optimization.require_fusion:
        raise OptimizeError(
            f"attention is fused in {budget.line()}",
            where="optimization.require_fusion=true",
            hint="optimization.require_fusion=false takes it as it is; the other exporter's graph may have more",
        )
    return (), fused, [f"attention is fused in {budget.line()} only"]


def _facts(before: GraphFacts, after: GraphFacts, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "file": facts["file"],
        "interface": facts["interface"],
        "signature": signature_to_dict(after.signature),
        "opsets": dict(after.opsets),
        "ir_version": after.ir_version,
        "nodes_before": before.nodes,
        "nodes": after.nodes,
        "tagged_nodes": after.tagged_nodes,
        "operators": dict(after.operators),
    }
