"""optimize: the files that ship."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from modelbuild.candidates import CANDIDATES, Candidate
from modelbuild.errors import OptimizeError
from modelbuild.fusions.blame import verdict
from modelbuild.fusions.budget import attention_budget, fused_operators
from modelbuild.graph import GraphFacts, read_graph
from modelbuild.graph_match import match
from modelbuild.hierarchy import Hierarchy
from modelbuild.interface import Interface
from modelbuild.operator_libraries import verified_libraries
from modelbuild.report import Check, Report, named_after, read_report
from modelbuild.signature import signature_to_dict
from modelbuild.spec import Optimization
from modelbuild.stage_spec import OptimizeSpec
from modelbuild.tagging import restore_tags, ship

SPEC = OptimizeSpec
REPORT: str | None = "report.json"

# From the most to the least that is done to a graph: where one kind fails, the next may do.
_TAMER = ("transformer", "extended", "basic", "none")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One exported graph, to be optimized: what kind of optimization, its file, what export said of it, where the
    result goes, and the libraries of its custom operators.
    """

    kind: str
    source: Path
    facts: Mapping[str, Any]
    out: Path
    custom_ops: tuple[str, ...]


def run(spec: OptimizeSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Optimize every exported graph with the asked candidate. It must load, keep its signature and match the exported
    graph.

    Raises OptimizeError otherwise, with the fusion that is to blame: a candidate is never replaced by another in
    silence. Raises it too when every layer's attention must be fused and is not.
    """
    source, libraries = inputs["export"], verified_libraries(spec.custom_ops, inputs)
    exported: Mapping[str, Mapping[str, Any]] = read_report(source / "report.json").facts["components"]
    checks: list[Check] = []
    components: dict[str, Any] = {}
    warnings: list[str] = []
    for name, facts in exported.items():
        target = out / facts["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        kind = spec.optimization.kind
        job = _Job(kind=kind, source=source / facts["file"], facts=facts, out=target, custom_ops=libraries)
        matched = _optimized(job)
        restore_tags(target, job.source)
        hierarchy = ship(Hierarchy.of_facts(facts["hierarchy"]), target)
        before, after = read_graph(job.source), read_graph(target)
        fusions, fused, warned = _fusions(spec.optimization, after, facts)
        checks += named_after(name if len(exported) > 1 else "", (matched, *fusions))
        components[name] = _facts(before, after, facts) | fused | {"hierarchy": hierarchy.facts()}
        warnings += [f"{name}: {text}" if len(exported) > 1 else text for text in warned]
    return Report(
        stage="optimize",
        checks=tuple(checks),
        facts={
            "optimization": spec.optimization.kind,
            "attention_fusions": [
                f"{name}: {found['attention_fusions']}" if len(components) > 1 else found["attention_fusions"]
                for name, found in components.items()
                if "attention_fusions" in found
            ],
            "warnings": warnings,
            "components": components,
        },
    )


def _optimized(job: _Job) -> Check:
    try:
        return _emit(job)
    except OptimizeError as error:
        raise _diagnosed(error, job) from error


def _emit(job: _Job, without: frozenset[str] = frozenset()) -> Check:
    """Write what the candidate makes, without some fusions. Raises OptimizeError when it cannot ship."""
    _candidate(job.kind).optimize(job.kind, job.source, job.facts, job.out, without, job.custom_ops)
    try:
        before, after = read_graph(job.source), read_graph(job.out)
    except Exception as error:
        raise OptimizeError(f"the optimized graph does not load: {error}") from error
    if before.signature != after.signature:
        raise OptimizeError(f"the optimized graph does not keep the signature: it has {after.signature}")
    interface = Interface.of_facts(job.facts["interface"])
    check = match(job.source, job.out, after.signature, interface, job.custom_ops)
    if not check.passed:
        raise OptimizeError(f"the optimized graph does not match the exported one: {check.line()}")
    return check


def _candidate(kind: str) -> Candidate:
    return cast(Candidate, importlib.import_module(CANDIDATES[kind]))


def _diagnosed(error: OptimizeError, job: _Job) -> OptimizeError:
    """The error with the fusion that is to blame, and a kind of optimization that works."""
    problem, kind = error.problems[0], job.kind
    tamer = next((other for other in _TAMER[_TAMER.index(kind) + 1 :] if _works(replace(job, kind=other))), None)
    if tamer is None:
        return OptimizeError(
            f"the exported graph itself cannot be used: {problem.what}",
            where=f"optimization={kind}",
            hint="is it a graph of this model (model=…)? If so, choose another exporter",
        )
    found = verdict(_candidate(kind).fusions(kind, job.facts), lambda without: _works(job, without=without))
    what = "; ".join(part for part in (problem.what, found) if part)
    return OptimizeError(what, where=kind, hint=f"choose optimization={tamer}")


def _works(job: _Job, *, without: frozenset[str] = frozenset()) -> bool:
    with tempfile.TemporaryDirectory(dir=job.out.parent, prefix=".attempt.") as scratch:
        try:
            _emit(replace(job, out=Path(scratch) / job.out.name), without)
        except OptimizeError:
            return False
    return True


def _fusions(
    optimization: Optimization, graph: GraphFacts, facts: Mapping[str, Any]
) -> tuple[tuple[Check, ...], dict[str, Any], list[str]]:
    """The fused operators, as facts; and for an optimization that promises fused attention, whether it kept that, as a
    check or a warning.

    A promise that was not kept is a warning, and no failed check: the file is right. Raises OptimizeError where the
    promise must be kept.
    """
    fused: dict[str, Any] = {"fusions": fused_operators(graph.operators)}
    if optimization.kind != "transformer" or facts["architecture"].get("num_hidden_layers") == 0:
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
