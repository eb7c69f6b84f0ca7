"""optimize: the file that ships."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from modelbuild.candidates import CANDIDATES, Candidate
from modelbuild.errors import OptimizeError
from modelbuild.fusions.blame import verdict
from modelbuild.fusions.budget import attention_budget, fused_operators
from modelbuild.graph import MODEL_FILE, GraphFacts, read_graph
from modelbuild.report import Check, Report, read_report
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import MASKS, Batch, Limits, random_batches
from modelbuild.signature import Signature, signature_to_dict
from modelbuild.spec import Optimization
from modelbuild.stage_spec import OptimizeSpec

Array = npt.NDArray[Any]

SPEC = OptimizeSpec
REPORT: str | None = "report.json"

# Optimizing fp32 reorders sums and no more: this share of the largest value is far above that, and far below what
# a wrong mask does.
_TOLERANCE = 1e-4
_TINY = float(np.finfo(np.float32).tiny)

# From the most to the least that is done to a graph: where one kind fails, the next may do.
_TAMER = ("transformer", "extended", "basic", "none")


def run(spec: OptimizeSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Optimize the exported graph with the asked candidate. It must load, keep its signature and match the exported
    graph.

    Raises OptimizeError otherwise, with the fusion that is to blame: a candidate is never replaced by another in
    silence. Raises it too when every layer's attention must be fused and is not.
    """
    kind, source = spec.optimization.kind, inputs["export"]
    facts = read_report(source / "report.json").facts
    try:
        match = _emit(kind, source, facts, out)
    except OptimizeError as error:
        raise _diagnosed(error, kind, source, facts, out) from error
    before, after = read_graph(source / MODEL_FILE), read_graph(out / MODEL_FILE)
    fusions, fusion_facts = _fusions(spec.optimization, after, facts)
    return Report(stage="optimize", checks=(match, *fusions), facts=_facts(kind, before, after, facts) | fusion_facts)


def _emit(kind: str, source: Path, facts: Mapping[str, Any], out: Path, without: frozenset[str] = frozenset()) -> Check:
    """Write what candidate `kind` makes, without some fusions, to `out`. Raises OptimizeError when it cannot ship."""
    _candidate(kind).optimize(kind, source, facts, out, without)
    try:
        before, after = read_graph(source / MODEL_FILE), read_graph(out / MODEL_FILE)
    except Exception as error:
        raise OptimizeError(f"the optimized graph does not load: {error}") from error
    if before.signature != after.signature:
        raise OptimizeError(f"the optimized graph does not keep the signature: it has {after.signature}")
    limits = Limits.of_facts(facts["limits"])
    check = _match(source / MODEL_FILE, out / MODEL_FILE, after.signature, limits)
    if not check.passed:
        raise OptimizeError(f"the optimized graph does not match the exported one: {check.line()}")
    return check


def _candidate(kind: str) -> Candidate:
    return cast(Candidate, importlib.import_module(CANDIDATES[kind]))


def _diagnosed(error: OptimizeError, kind: str, source: Path, facts: Mapping[str, Any], out: Path) -> OptimizeError:
    """The error with the fusion that is to blame, and a kind of optimization that works."""
    problem = error.problems[0]
    tamer = next((other for other in _TAMER[_TAMER.index(kind) + 1 :] if _works(other, source, facts, out)), None)
    if tamer is None:
        return OptimizeError(
            f"the exported graph itself cannot be used: {problem.what}",
            where=f"optimization={kind}",
            hint="is it a graph of this model (model=…)? If so, choose another exporter",
        )
    found = verdict(
        _candidate(kind).fusions(kind, facts), lambda without: _works(kind, source, facts, out, without=without)
    )
    return OptimizeError(f"{problem.what}; {found}", where=kind, hint=f"choose optimization={tamer}")


def _works(
    kind: str, source: Path, facts: Mapping[str, Any], out: Path, *, without: frozenset[str] = frozenset()
) -> bool:
    with tempfile.TemporaryDirectory(dir=out, prefix=".attempt.") as scratch:
        try:
            _emit(kind, source, facts, Path(scratch), without)
        except OptimizeError:
            return False
    return True


def _fusions(
    optimization: Optimization, graph: GraphFacts, facts: Mapping[str, Any]
) -> tuple[tuple[Check, ...], dict[str, Any]]:
    """The fused operators, as facts; and for an optimization that promises fused attention, whether it kept that.

    A promise that was not kept is a warning among the facts, and no failed check: the file is right. Raises
    OptimizeError where the promise must be kept.
    """
    fused = {"fusions": fused_operators(graph.operators)}
    if optimization.kind != "transformer":
        return (), fused
    budget = attention_budget(graph.operators, facts["architecture"])
    if budget.kept:
        return (budget.check(),), fused | {"attention_fusions": budget.line(), "warnings": []}
    if optimization.require_fusion:
        raise OptimizeError(
            f"attention is fused in {budget.line()}",
            where="optimization.require_fusion=true",
            hint="optimization.require_fusion=false takes it as it is; the other exporter's graph may have more",
        )
    warning = f"attention is fused in {budget.line()} only"
    return (), fused | {"attention_fusions": budget.line(), "warnings": [warning]}


def _facts(kind: str, before: GraphFacts, after: GraphFacts, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "optimization": kind,
        "signature": signature_to_dict(after.signature),
        "opsets": dict(after.opsets),
        "ir_version": after.ir_version,
        "nodes_before": before.nodes,
        "nodes": after.nodes,
        "tagged_nodes": after.tagged_nodes,
        "operators": dict(after.operators),
        "limits": facts["limits"],
        "hierarchy": {
            **facts["hierarchy"],
            "shipped_nodes": after.nodes,
            "shipped_tagged_nodes": after.tagged_nodes,
        },
    }


def _match(exported: Path, optimized: Path, signature: Signature, limits: Limits) -> Check:
    """Compare the two graphs, both run as they are in the file, on batches with every kind of mask."""
    settings = SessionSettings(graph_optimization_level="none", allow_spinning=False)
    names = signature.input_names()
    sizes, lengths = _sizes(signature, 0) or (1, 3), _sizes(signature, 1) or (2, 9)
    batches = random_batches(names, limits, batches=sizes, sequences=lengths, masks=tuple(MASKS), seed=1)
    try:
        sessions = [open_session(path, providers=[("cpu", {})], settings=settings) for path in (exported, optimized)]
        cases = [(_differences(sessions, signature, batch), batch.label) for batch in batches]
    except Exception as error:
        raise OptimizeError(f"the optimized graph does not run: {error}") from error
    # Of few values all may be close to zero, so that what is small is said by all batches.
    scales = [max(scale for _, scale in outputs) for outputs in zip(*(found for found, _ in cases), strict=True)]
    worst, where = max(
        (max(off / scale for (off, _), scale in zip(found, scales, strict=True)), label) for found, label in cases
    )
    return Check(
        name="matches export",
        passed=worst <= _TOLERANCE,
        compared=f"{len(cases)} batches",
        worst=worst,
        limit=_TOLERANCE,
        where=where,
    )


def _sizes(signature: Signature, axis: int) -> tuple[int, ...]:
    """The sizes that are fixed in the inputs at `axis`: a graph that was exported elsewhere may take no other."""
    return tuple({size for spec in signature.inputs for size in spec.shape[axis : axis + 1] if isinstance(size, int)})


def _differences(
    sessions: list[ort.InferenceSession], signature: Signature, batch: Batch
) -> tuple[tuple[float, float], ...]:
    """For each output the largest difference and the largest finite value at valid positions.

    The difference is infinite when the graphs differ in shape, in what is finite or in what is not.
    """
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4  # what fails is raised, and said once
    names = list(signature.output_names())
    before, after = (session.run(names, batch.inputs, quiet) for session in sessions)
    found = []
    for spec, expected, actual in zip(signature.outputs, before, after, strict=True):
        chosen = batch.valid if "sequence" in spec.shape[1:2] else batch.valid.any(axis=1)
        scale = float(np.max(np.abs(expected[chosen]), where=np.isfinite(expected[chosen]), initial=_TINY))
        found.append((_largest(expected[chosen], actual[chosen]) if expected.shape == actual.shape else np.inf, scale))
    return tuple(found)


def _largest(wanted: Array, found: Array) -> float:
    finite = np.isfinite(wanted)
    if not np.isfinite(found[finite]).all() or not np.array_equal(wanted[~finite], found[~finite], equal_nan=True):
        return float("inf")
    return float(np.max(np.abs(wanted[finite] - found[finite]), initial=0.0))
