"""One exported graph and one way to optimize it. What comes out must load, keep its signature and match."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from modelbuild.candidates import CANDIDATES, Candidate
from modelbuild.errors import OptimizeError
from modelbuild.graph import read_graph
from modelbuild.graph_match import Wanted, match, wanted
from modelbuild.interface import Interface
from modelbuild.report import Check

# Writes a graph in another precision: from a file, to a file. Returns what is to be said of it.
Reduce = Callable[[Path, Path], Mapping[str, Any]]


class Computed:
    """What an exported graph computes. It is found out once for a job and all that are made of it, by `replace`, and
    beside the optimization, which is work for one core.
    """

    def __init__(self) -> None:
        self._wanted: Future[Wanted] | None = None

    def of(self, job: Job) -> Future[Wanted]:
        """It, or what went wrong, as soon as it is there."""
        if self._wanted is None:
            aside = ThreadPoolExecutor(1)
            self._wanted = aside.submit(self._look, job)
            aside.shutdown(wait=False)
        return self._wanted

    @staticmethod
    def _look(job: Job) -> Wanted:
        return wanted(job.source, read_graph(job.source).signature, job.interface, job.custom_ops)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One exported graph, to be optimized: what kind of optimization, its file, what export said of it, where the
    result goes, the libraries of its custom operators, and what reduces its precision afterwards, if anything does.
    """

    kind: str
    source: Path
    facts: Mapping[str, Any]
    out: Path
    custom_ops: tuple[str, ...] = ()
    reduce: Reduce | None = None
    computed: Computed = field(default_factory=Computed, repr=False, compare=False)

    @property
    def interface(self) -> Interface:
        """What the graph takes and gives."""
        return Interface.of_facts(self.facts["interface"])


@dataclass(frozen=True, kw_only=True)
class Made:
    """A graph that was written: by which kind of optimization, that it matches the exported one, and what else is to be
    said of it.
    """

    kind: str
    check: Check
    facts: Mapping[str, Any] = field(default_factory=dict)


def candidate_of(kind: str) -> Candidate:
    """The module that optimizes so."""
    return cast(Candidate, importlib.import_module(CANDIDATES[kind]))


def emit(job: Job, without: frozenset[str] = frozenset()) -> Made:
    """Write what the candidate makes, without some fusions, in the precision of the job. Raises OptimizeError when it
    cannot ship.
    """
    if job.reduce is None:
        return Made(kind=job.kind, check=_form(job, without))
    with tempfile.TemporaryDirectory(dir=job.out.parent, prefix=".form.") as scratch:
        form = replace(job, out=Path(scratch) / job.out.name)
        check = _form(form, without)
        return Made(kind=job.kind, check=check, facts={"precision": dict(job.reduce(form.out, job.out))})


def _form(job: Job, without: frozenset[str]) -> Check:
    """Write what the candidate makes, in the precision of the original."""
    expected = job.computed.of(job)
    candidate_of(job.kind).optimize(job.kind, job.source, job.facts, job.out, without, job.custom_ops)
    try:
        before, after = read_graph(job.source), read_graph(job.out)
    except Exception as error:
        raise OptimizeError(f"the optimized graph does not load: {error}") from error
    if before.signature != after.signature:
        raise OptimizeError(f"the optimized graph does not keep the signature: it has {after.signature}")
    check = match(expected.result(), job.out)
    if not check.passed:
        raise OptimizeError(f"the optimized graph does not match the exported one: {check.line()}")
    return check


def works(job: Job, without: frozenset[str] = frozenset()) -> bool:
    """Whether the candidate makes a graph that matches, without some fusions. Nothing of it is left."""
    with tempfile.TemporaryDirectory(dir=job.out.parent, prefix=".attempt.") as scratch:
        try:
            _form(replace(job, out=Path(scratch) / job.out.name), without)
        except OptimizeError:
            return False
    return True
