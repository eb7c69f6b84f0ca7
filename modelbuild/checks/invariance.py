"""What must not matter: running it again, the rows beside a row, the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from modelbuild.checks.runs import Case, Runs
from modelbuild.component import Outputs
from modelbuild.errors import first_line
from modelbuild.interface import Interface, Output
from modelbuild.parity import Finding, worst_of
from modelbuild.report import Check
from modelbuild.runtime.session import session_options
from modelbuild.samples import Batch, sample
from modelbuild.sizes import typical_sizes

_BATCH, _LENGTH = 3, 9
_AGAIN = "deterministic"


def examine(runs: Runs) -> Iterator[Check]:
    """The same batch twice, with another number of threads, and each of its rows alone. That last is left out for
    outputs that have no rows, or are of every row with every row of another kind.

    How far two results may be apart is for the rule to say: both may be off from the truth by what parity allows.
    """
    subject = runs.subject
    rng = np.random.default_rng(subject.spec.validation.seed)
    sizes = typical_sizes(subject.interface, batch=_BATCH, length=_LENGTH, past=_LENGTH)
    batch = sample(subject.interface, sizes, mask="right", rng=rng)
    case = runs.case(batch)
    own = session_options(runs.settings()).intra_op_num_threads
    other = 1 if own > 1 else 2
    others: dict[str, tuple[str, Callable[[], Outputs]]] = {
        _AGAIN: ("the same batch twice", lambda: runs.run(batch)),
        "thread invariance": (
            f"{other} and {own} threads",
            lambda: runs.run(batch, runs.open(replace(runs.settings(), intra_op_num_threads=other))),
        ),
    }
    outputs = subject.interface.outputs
    for name, (compared, again) in others.items():
        yield from worst_of(_differences(name, runs, case, outputs, again), compared)
    rows = _of_one_row(subject.interface)
    left_out = ", ".join(output.name for output in outputs if output not in rows)
    compared = f"each of {_BATCH} rows alone, and beside the others{'; not ' if left_out else ''}{left_out}"
    found = _differences("batch invariance", runs, case, rows, lambda: _rows_alone(runs, batch, rows))
    yield from worst_of(found if rows else (), compared)


def _of_one_row(interface: Interface) -> tuple[Output, ...]:
    """The outputs that have rows, each of which comes from one row: not those of every row with every other, and none
    where a row cannot be alone.
    """
    batches = {axis.name for axis in interface.axes_of("batch") if axis.smallest <= 1}
    return tuple(output for output in interface.outputs if sum(axis in batches for axis in output.shape) == 1)


def _rows_alone(runs: Runs, batch: Batch, outputs: Sequence[Output]) -> Outputs:
    rows = [runs.run(batch.row(number)) for number in range(batch.rows)]
    batches = {axis.name for axis in runs.subject.interface.axes_of("batch")}
    places = {output.name: next(p for p, axis in enumerate(output.shape) if axis in batches) for output in outputs}
    return {name: np.concatenate([row[name] for row in rows], axis=place) for name, place in places.items()}


def _differences(
    name: str, runs: Runs, case: Case, outputs: Sequence[Output], again: Callable[[], Outputs]
) -> Iterator[Finding]:
    try:
        second = again()
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no other base class
        where = f"{case.batch.label}: does not run: {first_line(error)}"
        yield Finding(check=name, value=float("inf"), limit=1.0, where=where)
        return
    for output in outputs:
        where = f"{output.name}, {case.batch.label}"
        if case.candidate is None or case.candidate[output.name].shape != second[output.name].shape:
            yield Finding(check=name, value=float("inf"), limit=1.0, where=f"{where}: another shape")
            continue
        values = case.values(output)
        if not values.valid.any():
            continue
        limit = runs.rule.between(values, runs.usual[output.name], again=name == _AGAIN)
        again_placed = case.batch.placed(output, second[output.name])[0]
        with np.errstate(invalid="ignore"):
            difference = np.abs(values.candidate[values.valid] - again_placed[values.valid])
        yield Finding(check=name, value=float(np.max(difference)), limit=limit, where=where)
