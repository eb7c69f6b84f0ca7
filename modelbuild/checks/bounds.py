"""One token more than the model takes is refused, in one line, and not computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from modelbuild.checks.runs import Runs
from modelbuild.errors import InputError
from modelbuild.reference import run_reference
from modelbuild.report import Check, read_report
from modelbuild.runtime.inputs import check_inputs
from modelbuild.samples import random_batch


def examine(runs: Runs) -> Iterator[Check]:
    """The runtime, by the limit that ships, refuses an input longer than the model's maximum; and where PyTorch fails
    on it, so does the graph.

    On other providers than the CPU the graph is left out: their kernels do not check indices.
    """
    subject = runs.subject
    longest = subject.limits.max_positions
    shipped = read_report(subject.model_file.parent / "report.json").facts["limits"]["sequence"]
    rng = np.random.default_rng(subject.spec.validation.seed)
    batch = random_batch(subject.names, subject.limits, batch=1, sequence=longest + 1, mask="ones", rng=rng)
    found = []
    try:
        check_inputs(subject.graph.signature, {"sequence": shipped}, batch.inputs)
        found.append(f"the runtime lets it through, its limit is {shipped}")
    except InputError as error:
        found += [] if "sequence" in str(error) else [f"the runtime says: {error}"]
    if (
        subject.spec.providers.order[0] == "cpu"
        and _fails(lambda: run_reference(subject.reference, batch.inputs, subject.task.outputs))
        and not _fails(lambda: runs.run(batch))
    ):
        found.append("PyTorch refuses it, and the graph computes something")
    yield Check(
        name="beyond maximum",
        passed=not found,
        compared=f"{longest + 1} tokens, where the model takes {longest}",
        where="; ".join(found),
    )


def _fails(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:  # noqa: BLE001 - that it fails is what is asked, and each side fails in its own way
        return True
    return False
