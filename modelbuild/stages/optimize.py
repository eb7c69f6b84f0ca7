"""optimize: the file that ships."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort

from modelbuild.candidates import CANDIDATES, Candidate
from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.report import Check, Report, read_report
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import Batch, Limits, random_batches
from modelbuild.signature import Signature, signature_to_dict
from modelbuild.stage_spec import OptimizeSpec

SPEC = OptimizeSpec
REPORT: str | None = "report.json"

# Optimizing fp32 reorders sums and no more: this share of the largest value is far above that, and far below what
# a wrong mask does.
_TOLERANCE = 1e-4


def run(spec: OptimizeSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Optimize the exported graph with the asked candidate. It must load, keep its signature and match the exported
    graph.

    Raises OptimizeError otherwise: a candidate is never replaced by another in silence.
    """
    kind, source = spec.optimization.kind, inputs["export"]
    facts = read_report(source / "report.json").facts
    candidate = cast(Candidate, importlib.import_module(CANDIDATES[kind]))
    candidate.optimize(kind, source, facts, out)
    before, after = read_graph(source / MODEL_FILE), read_graph(out / MODEL_FILE)
    if before.signature != after.signature:
        raise OptimizeError(
            f"the optimized graph has another signature: {after.signature}", where=kind, hint="choose optimization=none"
        )
    check = _match(source / MODEL_FILE, out / MODEL_FILE, after.signature, Limits(**_limits(facts)))
    if not check.passed:
        raise OptimizeError(
            f"the optimized graph does not match the exported one: {check.line()}",
            where=kind,
            hint="choose optimization=none",
        )
    return Report(
        stage="optimize",
        checks=(check,),
        facts={
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
        },
    )


def _limits(facts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    limits = facts["limits"]
    return {
        "vocab_size": limits["vocab_size"],
        "type_vocab_size": limits["type_vocab_size"],
        "max_positions": limits["sequence"],
    }


def _match(exported: Path, optimized: Path, signature: Signature, limits: Limits) -> Check:
    """Compare the two graphs, both run as they are in the file, on batches padded right and left."""
    settings = SessionSettings(graph_optimization_level="none")
    names = signature.input_names()
    sizes, lengths = _sizes(signature, 0) or (1, 3), _sizes(signature, 1) or (2, 9)
    batches = random_batches(names, limits, batches=sizes, sequences=lengths, masks=("right", "left"), seed=1)
    try:
        sessions = [open_session(path, providers=[("cpu", {})], settings=settings) for path in (exported, optimized)]
        cases = [(_difference(sessions, signature, batch), batch.label) for batch in batches]
    except Exception as error:
        raise OptimizeError(f"the optimized graph does not run: {error}", hint="choose optimization=none") from error
    worst, where = max(cases)
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


def _difference(sessions: list[ort.InferenceSession], signature: Signature, batch: Batch) -> float:
    """The largest difference over all outputs at valid positions, as a share of the largest value there.

    Infinite when the graphs differ in shape or in what is finite.
    """
    before, after = (session.run(list(signature.output_names()), batch.inputs) for session in sessions)
    shares = [0.0]
    for spec, expected, actual in zip(signature.outputs, before, after, strict=True):
        if expected.shape != actual.shape or not np.array_equal(np.isfinite(expected), np.isfinite(actual)):
            return float("inf")
        chosen = batch.valid if "sequence" in spec.shape[1:2] else batch.valid.any(axis=1)
        scale = float(np.nanmax(np.abs(expected[chosen]), initial=np.finfo(np.float32).tiny))
        shares.append(float(np.nanmax(np.abs(expected[chosen] - actual[chosen]), initial=0.0)) / scale)
    return max(shares)
