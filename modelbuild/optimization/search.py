"""optimization=auto: every way to optimize is tried, and the fastest that is right ships.

Every candidate must load and match; those that do are timed beside each other, a process each, in interleaved
blocks. One that is slower than the plain graph in any shape is out; of the others the one with the best ratio over
all shapes wins, or a simpler one that cannot be told from it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modelbuild.errors import OptimizeError
from modelbuild.graph import data_file
from modelbuild.measure.processes import WAITING_LIMIT
from modelbuild.measure.statistics import rounded
from modelbuild.optimization.choice import choose
from modelbuild.optimization.job import Job, Made
from modelbuild.optimization.timing import cut, timed
from modelbuild.optimization.trials import Trial, tried
from modelbuild.stage_spec import OptimizeSpec

# From the simplest on: of two that are as fast, the one before the other ships. Attention has its linear layers inside,
# where a reduced precision does not reach them.
CANDIDATES = ("none", "extended", "multi_head_attention", "transformer", "ort_transformer")
QUANTIZED = ("none", "extended", "multi_head_attention")


def make(job: Job, spec: OptimizeSpec) -> Made:
    """Write the fastest graph that is right. What was tried, what it gave and why it lost is in the facts, `search`.

    `baseline` is the simplest graph that is right, with which the others are compared: the exported one, mostly. Raises
    OptimizeError when no candidate is right.
    """
    started, budget_s = time.monotonic(), spec.optimization.budget_s
    with tempfile.TemporaryDirectory(dir=job.out.parent, prefix=".search.") as scratch:
        kinds = QUANTIZED if spec.precision.quantizes else CANDIDATES
        trials = list(tried(job, kinds, Path(scratch), budget_s))
        samples = timed(job, spec, _right(trials), max(0.0, budget_s - (time.monotonic() - started)))
        runnable = _right(trials)
        latencies = {shape: found.latencies_ms for shape, found in samples.items()}
        chosen = runnable[choose(runnable, latencies)]
        assert chosen.file is not None
        assert chosen.made is not None
        _move(chosen.file, job.out)
    found = {
        "chosen": chosen.kind,
        "baseline": next(iter(runnable)),
        "budget_s": budget_s,
        "spent_s": time.monotonic() - started,
        "notes": cut(job, spec.optimization.shapes),
        "waiting_share": {shape: found.waiting_share for shape, found in samples.items()},
        "disturbed": any((found.waiting_share or 0) > WAITING_LIMIT for found in samples.values()),
        "candidates": {trial.kind: trial.facts | {"why": trial.why} for trial in trials},
    }
    return replace(chosen.made, facts={**chosen.made.facts, "search": rounded(found)})


def _right(trials: Sequence[Trial]) -> dict[str, Trial]:
    """The trials that may ship, by kind."""
    found = {trial.kind: trial for trial in trials if trial.file}
    if not found:
        raise OptimizeError(
            f"no candidate can be used: {'; '.join(f'{trial.kind}: {trial.why}' for trial in trials)}",
            where="optimization=auto",
            hint="is it a graph of this model (model=…)? If so, choose another exporter",
        )
    return found


def _move(file: Path, out: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        target = out if path.name == file.name else out.parent / data_file(out.name)
        shutil.move(path, target)
