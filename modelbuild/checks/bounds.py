"""A size that the model does not take is refused, in one line, and not computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from modelbuild.checks.runs import Runs
from modelbuild.component import run_module
from modelbuild.errors import InputError
from modelbuild.interface import Axis, Interface
from modelbuild.report import Check
from modelbuild.runtime.inputs import InputCheck
from modelbuild.samples import Batch, sample
from modelbuild.sizes import typical_sizes


def examine(runs: Runs) -> Iterator[Check]:
    """The runtime, by the limits that ship, refuses an input longer than the model's maximum, or with more rows; and
    where PyTorch fails on it, so does the graph.

    On other providers than the CPU the graph is left out: their kernels do not check indices.
    """
    yield from _between_steps(runs)
    limited = _limited(runs.subject.interface)
    for axis, largest in limited.items():
        size = (largest // axis.step + 1) * axis.step
        found = _beyond(runs, axis, _too_long(runs, axis, size))
        what = "rows" if axis.kind == "batch" else "positions"
        yield Check(
            name="beyond maximum" if len(limited) == 1 else f"beyond maximum {axis.name}",
            passed=not found,
            compared=f"{size} {what}, where the model takes {largest}",
            where="; ".join(found),
        )


def _beyond(runs: Runs, axis: Axis, batch: Batch) -> list[str]:
    """What is wrong with how a batch is taken that has more on `axis` than the model takes."""
    subject, found = runs.subject, []
    shipped = subject.limits.get(axis.name)
    try:
        limits = {axis.name: shipped} if shipped else {}
        empty = [past.name for past in subject.interface.axes_of("past")]
        sums = {total.name: total.parts for total in subject.interface.axes_of("sum")}
        InputCheck(subject.graph.signature, limits, may_be_empty=empty, sums=sums)(batch.inputs)
        found.append(f"the runtime lets it through, its limit is {shipped}")
    except InputError as error:
        named = any(name in str(error) for name in (axis.name, *axis.parts))
        found += [] if named else [f"the runtime says: {error}"]
    if (
        subject.spec.providers.order[0] == "cpu"
        and _fails(lambda: run_module(subject.component.module, batch.inputs))
        and not _fails(lambda: runs.run(batch))
    ):
        found.append("PyTorch refuses it, and the graph computes something")
    return found


def _between_steps(runs: Runs) -> Iterator[Check]:
    """Of sizes that come in steps, the runtime refuses those between, for which the graph was not made."""
    subject, found = runs.subject, []
    steps = subject.interface.steps()
    for name, step in steps.items():
        sizes = typical_sizes(subject.interface, batch=1, length=1)
        batch = sample(subject.interface, sizes | {name: step + 1}, mask="ones", rng=np.random.default_rng(0))
        try:
            InputCheck(subject.graph.signature, {}, steps=subject.steps)(batch.inputs)
            found.append(f"the runtime lets {name} of {step + 1} through, its step is {subject.steps.get(name)}")
        except InputError as error:
            found += [] if name in str(error) else [f"the runtime says: {error}"]
    if steps:
        said = ", ".join(f"{name} {step}" for name, step in steps.items())
        yield Check(name="between steps", passed=not found, compared=f"steps: {said}", where="; ".join(found))


def _limited(interface: Interface) -> dict[Axis, int]:
    """The axes of positions and rows that have a limit, and that limit. A part of a sum that has the same is left
    out: what is too long for the one is too long for the other.
    """
    sums = {(part, total.largest) for total in interface.axes_of("sum") for part in total.parts}
    axes = (*interface.axes_of("sum"), *interface.axes_of("length"), *interface.axes_of("batch"))
    return {axis: axis.largest for axis in axes if axis.largest and (axis.name, axis.largest) not in sums}


def _too_long(runs: Runs, axis: Axis, size: int) -> Batch:
    interface = runs.subject.interface
    sizes = typical_sizes(interface, batch=1, length=1)
    longer = axis.parts[-1] if axis.parts else axis.name
    size -= sum(sizes[part] for part in axis.parts[:-1])
    rng = np.random.default_rng(runs.subject.spec.validation.seed)
    return sample(interface, sizes | {longer: size}, mask="ones", rng=rng)


def _fails(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:  # noqa: BLE001 - that it fails is what is asked, and each side fails in its own way
        return True
    return False
