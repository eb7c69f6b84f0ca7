"""Parity: every output of every batch against PyTorch, and what it means: top-1, divergence, cosine, neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from modelbuild.agreement import embeddings, over_positions, scores
from modelbuild.checks.accuracy import Judged, is_accurate, judge
from modelbuild.checks.runs import Case, Runs, batches_of
from modelbuild.interface import Interface, Output
from modelbuild.parity import AnyRule, Finding, Rule, Usual, Values, parity, worst_of
from modelbuild.report import Check
from modelbuild.samples import Batch


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What came of all batches: the checks, the first batch that failed, for each kind of batch how many failed of
    how many, and whether the model `runs` at all, with outputs of the right shapes.
    """

    checks: tuple[Check, ...]
    failing: Batch | None
    kinds: dict[str, tuple[int, int]]
    runs: bool
    judged: Judged


def compare_all(runs: Runs) -> Numbers:
    """Run every batch on both sides, and compare. In reduced precision, its accuracy is judged first."""
    judged = judge(runs)
    findings: list[Finding] = []
    failing: Batch | None = None
    kinds: dict[str, tuple[int, int]] = {}
    works = True
    for batch in batches_of(runs.subject):
        case = runs.case(batch)
        found = _findings(case, runs.subject.interface, runs.rule, runs.usual)
        findings += found
        works = works and case.has_right_shapes()
        failed, count = kinds.get(batch.kind, (0, 0))
        wrong = any(finding.badness > 1 for finding in found)
        kinds[batch.kind] = (failed + wrong, count + 1)
        failing = batch if wrong and failing is None else failing
    checks = (*judged.checks, *worst_of(findings), *_never_compared(findings, runs.subject.interface))
    # What an inaccurate graph is allowed elsewhere says little, so that the sentences that are off come first.
    failing = judged.failing or failing
    return Numbers(checks=checks, failing=failing, kinds=kinds, runs=works, judged=judged)


def _never_compared(findings: Iterable[Finding], interface: Interface) -> Iterator[Check]:
    """A failed check for every output that meant nothing in any batch: nobody knows whether it is right."""
    compared = {finding.check for finding in findings}
    for name in (f"parity.{output}" for output in interface.output_names()):
        if name not in compared:
            where = "no batch had a valid value to compare"
            yield Check(name=name, passed=False, compared="0 batches", worst=float("inf"), limit=1.0, where=where)


def agrees(runs: Runs, batch: Batch, session: ort.InferenceSession | None = None) -> bool:
    """Whether one small batch comes out right, from the file that ships or another `session`."""
    case = runs.case(batch, session)
    found = _findings(case, runs.subject.interface, runs.rule, runs.usual.copy())
    return all(finding.badness <= 1 for finding in found) and is_accurate(runs, case)


def _findings(case: Case, interface: Interface, rule: AnyRule, usual: dict[str, Usual]) -> list[Finding]:
    """Everything about one batch. `usual` collects what is usual for each output."""
    if case.candidate is None:
        where = f"{case.batch.label}: does not run: {case.error}"
        names = interface.output_names()
        return [Finding(check=f"parity.{name}", value=float("inf"), limit=1.0, where=where) for name in names]
    findings: list[Finding] = []
    for output in interface.outputs:
        name, values = output.name, case.values(output)
        if values.candidate.shape != values.reference.shape:
            findings += parity(values, rule, usual[name])
            continue
        if not values.valid.any():
            continue
        usual[name] = rule.seen(usual[name], values)
        findings += parity(values, rule, usual[name])
        if isinstance(rule, Rule):  # in reduced precision, what it means is judged of all sentences together
            findings += _agreement(values, output, rule, float(np.max(rule.allowed(values, usual[name]))))
    return findings


def _agreement(values: Values, output: Output, rule: Rule, limit: float) -> Iterator[Finding]:
    if output.meaning == "values":
        return iter(())
    if output.meaning == "embeddings":
        return embeddings(values, rule)
    positions = values.valid.ndim == 2 and values.reference.ndim == 2
    return scores(over_positions(values) if positions else values, rule, limit)
