"""What must not matter: running it again, the rows beside a row, the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from modelbuild.checks.runs import Runs
from modelbuild.parity import Finding, Usual, allowed, worst_of
from modelbuild.reference import Outputs
from modelbuild.report import Check
from modelbuild.runtime.session import SessionSettings
from modelbuild.samples import Batch, random_batch

_BATCH, _SEQUENCE = 3, 9


def examine(runs: Runs) -> Iterator[Check]:
    """The same batch twice, each of its rows alone, and with another number of threads.

    Both results of a pair may be off from the truth by what parity allows, so they may differ by twice that.
    """
    subject = runs.subject
    length = min(_SEQUENCE, subject.limits.max_positions)
    rng = np.random.default_rng(subject.spec.validation.seed)
    batch = random_batch(subject.names, subject.limits, batch=_BATCH, sequence=length, mask="right", rng=rng)
    first = runs.run(batch)
    others = {
        "deterministic": (runs.run(batch), "the same batch twice"),
        "batch invariance": (_rows_alone(runs, batch), f"each of {_BATCH} rows alone, and beside the others"),
        "thread invariance": (runs.run(batch, runs.open(_other_threads(runs))), "one thread, and the session's own"),
    }
    for name, (second, compared) in others.items():
        yield from worst_of(_differences(name, runs, batch, first, second), compared)


def _other_threads(runs: Runs) -> SessionSettings:
    settings = runs.settings()
    return replace(settings, intra_op_num_threads=2 if settings.intra_op_num_threads == 1 else 1)


def _rows_alone(runs: Runs, batch: Batch) -> Outputs:
    size = len(batch.valid)
    alone = (Batch(kind="", inputs={k: v[row : row + 1] for k, v in batch.inputs.items()}) for row in range(size))
    rows = [runs.run(row) for row in alone]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _differences(name: str, runs: Runs, batch: Batch, first: Outputs, second: Outputs) -> Iterator[Finding]:
    case = runs.case(batch)
    for output in runs.subject.task.outputs:
        values = case.values(output, per_token=output in runs.subject.task.per_token)
        limit = 2 * float(np.max(allowed(values, runs.rule, Usual())))
        with np.errstate(invalid="ignore"):
            worst = float(np.max(np.abs(first[output][values.valid] - second[output][values.valid]).astype(np.float64)))
        yield Finding(check=name, value=worst, limit=limit, where=f"{output}, {batch.label}")
