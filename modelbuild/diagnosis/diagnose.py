"""A diagnosis in two lines: where a model first departs from PyTorch, and what brought that in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelbuild.checks.numbers import Numbers, agrees
from modelbuild.checks.runs import Runs
from modelbuild.diagnosis.modules import Departure, Evidence, first_departure
from modelbuild.diagnosis.optimizations import culprit
from modelbuild.diagnosis.tensors import OpenGraph, module_outputs
from modelbuild.errors import first_line
from modelbuild.samples import Batch

# Up to so many tokens, every tensor of a graph is held in memory at once.
_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """`place`: where it departs and with what inputs. `cause`: what brought it in."""

    place: str
    cause: str


def diagnose(runs: Runs, numbers: Numbers, optimization: str, scratch: Path) -> Diagnosis:
    """Why the first batch that failed did. The file that ships was made by `optimization`; nothing is left in
    `scratch`. What goes wrong with looking for it is said, for the report must not be lost to it.
    """
    try:
        return _found(runs, numbers, optimization, scratch)
    except Exception as error:  # noqa: BLE001 - whatever it is, the checks that failed are what counts
        return Diagnosis(place=_kinds(numbers), cause=f"the cause was not found: {first_line(error)}")


def _found(runs: Runs, numbers: Numbers, optimization: str, scratch: Path) -> Diagnosis:
    assert numbers.failing is not None
    batch = _in_memory(runs, numbers.failing)
    case = runs.case(batch)
    if case.candidate is None:
        place = f"the graph does not run: {case.error}; {_kinds(numbers)}"
        return Diagnosis(place=place, cause="not looked for: what does not run has nothing to compare")
    departure = _departure(runs, batch)
    where = _where(departure, runs.rule.slack)
    return Diagnosis(place=f"{where}; {_kinds(numbers)}", cause=culprit(runs, batch, optimization, scratch))


def _in_memory(runs: Runs, batch: Batch) -> Batch:
    """The batch, or where all tensors of a graph would be too many for it, the first of its rows that fails alone."""
    if batch.positions <= _TOKENS:
        return batch
    rows = (batch.row(number) for number in range(batch.rows))
    return next((row for row in rows if not agrees(runs, row)), batch)


def _departure(runs: Runs, batch: Batch) -> Departure | None:
    graph = OpenGraph(runs.subject.model_file, runs.subject.model_file.parent, runs.subject.custom_ops)
    calm = batch.without_padding()
    known = calm is not None and agrees(runs, calm)
    skipped = runs.subject.component.unused_weights
    return first_departure(
        graph,
        _evidence(runs, graph, batch),
        _evidence(runs, graph, calm) if known and calm else None,
        skipped,
    )


def _evidence(runs: Runs, graph: OpenGraph, batch: Batch) -> Evidence:
    return Evidence(
        batch=batch,
        modules=module_outputs(runs.subject.component.module, batch),
        oracle=module_outputs(runs.oracle, batch),
        tensors=graph.tensors(batch),
        slack=runs.rule.slack,
    )


def _where(departure: Departure | None, slack: float) -> str:
    if departure is None and slack:
        return f"no PyTorch module is off by more than {slack:.2g} of its largest value: what precision costs adds up"
    if departure is None:
        return "every PyTorch module is right: it departs after the last one"
    share = f", by {departure.share:.2g} of the largest value" if departure.share is not None else ""
    operator = f" at {departure.operator}" if departure.operator else ""
    return f"first departs in {departure.module} ({departure.class_name}){operator}{share}"


def _kinds(numbers: Numbers) -> str:
    judged = [numbers.judged.failing.kind] if numbers.judged.failing else []
    wrong = judged + [kind for kind, (failed, _) in numbers.kinds.items() if failed]
    right = [kind for kind, (failed, _) in numbers.kinds.items() if not failed]
    return f"wrong with {', '.join(wrong)}" + (f"; right with {', '.join(right)}" if right else "")
