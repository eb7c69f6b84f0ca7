"""Every candidate of a search, made as far as it can be: what crashes or is wrong is a line, and not the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelbuild.digest import sha256_file
from modelbuild.errors import ModelbuildError, first_line
from modelbuild.graph import read_graph
from modelbuild.optimization.job import Job, Made, emit

# Making candidates may take this share of the budget; the rest is for timing them.
_MAKING = 0.6


@dataclass(kw_only=True)
class Trial:
    """One candidate: the graph that it made, in `file` as long as it may ship, and what came of it.

    `why` says why it does not ship, and is empty for the one that does.
    """

    kind: str
    made: Made | None = None
    file: Path | None = None
    why: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def fails(self, error: Exception) -> None:
        """It cannot ship, because of `error`."""
        what = error.problems[0].what if isinstance(error, ModelbuildError) else first_line(error)
        self.file, self.why = None, f"wrong: {what}"
        say(f"{self.kind}: {self.why}")


def tried(job: Job, kinds: Sequence[str], scratch: Path, budget_s: float) -> Iterator[Trial]:
    """A trial of each of `kinds`, in a folder of its own in `scratch`; the first whatever the budget says."""
    started, known = time.monotonic(), dict[tuple[str, ...], str]()
    for kind in kinds:
        trial = Trial(kind=kind)
        if known and time.monotonic() - started > _MAKING * budget_s:
            trial.why = f"not tried: the {1 - _MAKING:.0%} of optimization.budget_s that are left are for timing"
        else:
            _make(trial, replace(job, kind=kind, out=scratch / kind / job.out.name), known)
        yield trial


def _make(trial: Trial, job: Job, known: dict[tuple[str, ...], str]) -> None:
    """Make the graph, unless one of the `known`, by content, is the same."""
    job.out.parent.mkdir()
    began = time.monotonic()
    try:
        trial.made = emit(job)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - optimizers are others' code, and may raise anything
        trial.fails(error)
        return
    say(f"{trial.kind}: made")
    trial.facts = {"made_s": time.monotonic() - began, "nodes": read_graph(job.out).nodes}
    content = tuple(sha256_file(path) for path in sorted(job.out.parent.glob(f"{job.out.name}*")))
    twin = known.setdefault(content, trial.kind)
    if twin == trial.kind:
        trial.file = job.out
    else:
        trial.why = f"the same graph as {twin}"


def say(line: str) -> None:
    """Progress, for the log of the stage."""
    print(f"optimize: {line}", file=sys.stderr, flush=True)
