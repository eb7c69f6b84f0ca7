"""Accuracy of a graph in reduced precision: on real sentences, or what takes their place where a model reads none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelbuild.accuracy import Accuracy, Outputs, accuracy_of
from modelbuild.checks.runs import Case, Runs
from modelbuild.checks.sidecar import has_tokenizer
from modelbuild.checks.subject import Subject
from modelbuild.interface import Interface
from modelbuild.real_text import TEXT, real_batches, takes_text
from modelbuild.report import Check
from modelbuild.samples import Batch, sample
from modelbuild.sentences import EVALUATION
from modelbuild.sizes import typical_sizes

# Where there is no text: so many rows of each length, and so many batches of what has no length.
_ROWS, _LENGTHS, _TURNS = 8, (4, 9, 16, 33, 64), 5
_SEEDED = "seeded"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The checks, the figures by output, a line for people, and the batch that turned most, where that is too much.

    All of them are empty for a graph in the original's precision.
    """

    checks: tuple[Check, ...] = ()
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    line: str = ""
    failing: Batch | None = None


def judge(runs: Runs) -> Judged:
    """Run what the accuracy is judged by on both sides. From then on, the errors seen there are what is usual."""
    precision = runs.subject.spec.precision
    if precision.kind == "fp32":
        return Judged()
    batches = judged_batches(runs.subject)
    kept: list[tuple[float, Batch]] = []

    def pairs() -> Iterator[tuple[Batch, Outputs, Outputs]]:
        for batch in batches:
            case = runs.case(batch)
            yield batch, case.reference, _candidate(case)
            _note_usual(runs, case)
            kept.append((_accuracy(runs, case).worst, batch))

    accuracy = accuracy_of(runs.subject.interface, pairs(), precision)
    what = "sentences" if batches[0].kind == TEXT else "seeded rows"
    return Judged(
        checks=accuracy.checks(what),
        facts=accuracy.facts(),
        line=f"{precision.kind}: {accuracy.line(what)}",
        failing=None if accuracy.kept else min(kept, key=lambda found: found[0])[1],
    )


def is_accurate(runs: Runs, case: Case) -> bool:
    """Whether a batch that accuracy is judged by is accurate for itself; True of any other."""
    if case.batch.kind not in (TEXT, _SEEDED) or runs.subject.spec.precision.kind == "fp32":
        return True
    return _accuracy(runs, case).kept


def judged_batches(subject: Subject) -> Sequence[Batch]:
    """All sentences through the tokenizer that ships; for a graph that reads none, seeded inputs without padding."""
    interface = subject.interface
    if takes_text(interface) and has_tokenizer(subject):
        return real_batches(subject.tokenizer, interface, EVALUATION)
    rng = np.random.default_rng(subject.spec.validation.seed)
    return [sample(interface, sizes, mask="ones", rng=rng, kind=_SEEDED) for sizes in _sizes(interface)]


def _sizes(interface: Interface) -> list[dict[str, int]]:
    """Sizes of several lengths, each once; the same several times for a graph that has no length."""
    found = [typical_sizes(interface, batch=_ROWS, length=length, past=length) for length in _LENGTHS]
    if not interface.axes_of("length"):
        return [typical_sizes(interface, batch=2, length=1, past=1)] * _TURNS
    return [sizes for number, sizes in enumerate(found) if sizes not in found[:number]]


def _accuracy(runs: Runs, case: Case) -> Accuracy:
    precision = runs.subject.spec.precision
    assert precision.kind != "fp32"
    return accuracy_of(runs.subject.interface, [(case.batch, case.reference, _candidate(case))], precision)


def _candidate(case: Case) -> Outputs:
    """The outputs of the candidate; for one that does not run, outputs of no shape that is right."""
    return case.candidate or {name: np.empty((0, 0, 0, 0, 0)) for name in case.reference}


def _note_usual(runs: Runs, case: Case) -> None:
    if case.candidate is None:
        return
    for output in runs.subject.interface.outputs:
        values = case.values(output)
        if values.candidate.shape == values.reference.shape and values.valid.any():
            runs.usual[output.name] = runs.usual[output.name].judged(values)
