"""Measuring sides against each other: a process for each, blocks interleaved, and only one of them awake at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import psutil

from modelbuild.errors import HostError, ModelbuildError
from modelbuild.measure import child
from modelbuild.measure.probes import Block, run_block
from modelbuild.measure.sides import Arrays, Facts, Loaded, Side
from modelbuild.measure.statistics import Floats
from modelbuild.own_process import command, environment
from modelbuild.spec import Benchmark

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_TIMEOUT_S = 1800.0
WAITING_LIMIT = 0.1


class MeasuredProcess:
    """A side, loaded and kept warm in a process of its own, which is suspended except while it answers.

    So the threads of one side, which ONNX Runtime lets spin after a call, take nothing from the other. As a context
    manager it starts the process, loads the side (`facts`), and ends the process whatever happens.
    """

    facts: Facts

    def __init__(self, name: str, side: Side) -> None:
        self._name = name
        self._side = side

    def __enter__(self) -> Self:
        self._connection, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = _start(theirs.fileno())
        try:
            self._control = psutil.Process(self.pid)
            self.facts = self._exchange((self._name, self._side))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, question: Callable[Concatenate[Loaded, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `question`, a function at the top of a module, answers for the loaded side in its process.

        Raises the ModelbuildError that the process met (the side's own class for what is none), and HostError when the
        process died or gives no answer.
        """
        answer: T = self._exchange((question, args, kwargs))
        return answer

    def _exchange(self, request: object) -> Any:
        try:
            self._control.resume()
            self._connection.send(request)
            if not self._connection.poll(ANSWER_TIMEOUT_S):
                raise HostError(f"the process of {self._name} gave no answer in {ANSWER_TIMEOUT_S:.0f} s")
            answer = self._connection.recv()
            if isinstance(answer, ModelbuildError):
                raise answer
            self._control.suspend()
        except (EOFError, ConnectionError, psutil.NoSuchProcess) as error:
            raise self._died() from error
        return answer

    def _died(self) -> HostError:
        status = self._process.wait()
        if status < 0:
            killer = signal.Signals(-status).name
            return HostError(f"the process of {self._name} was ended by {killer}", hint="is there enough memory?")
        return HostError(f"the process of {self._name} ended with status {status}", hint="see what it wrote above")

    def _end(self) -> None:
        self._connection.close()
        # Not terminate: a suspended process takes no other signal.
        self._process.kill()
        self._process.wait()


def _start(fd: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter with our import path and none of our modules, so that its memory is that of the side."""
    return subprocess.Popen(
        command(child.__name__, str(fd), str(os.getpid())),
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        stdout=2,
        env=environment(),
    )


@contextmanager
def open_processes(sides: Mapping[str, Side]) -> Iterator[dict[str, MeasuredProcess]]:
    """A process for each of `sides`, by name, loaded one after the other; when the block is left they have ended."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(MeasuredProcess(name, side)) for name, side in sides.items()}


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Latencies in ms by side, each `(rounds, runs)`.

    `waiting_share` is the largest share of a block that threads waited for a core, None where that is not known.
    """

    latencies_ms: Mapping[str, Floats]
    waiting_share: float | None


def interleave(
    processes: Mapping[str, MeasuredProcess], inputs: Arrays, plan: Benchmark, rng: np.random.Generator
) -> Samples:
    """After `plan.warmup` calls, rounds in which each side runs a block of `plan.runs`, in an order drawn from `rng`.

    A round in which a side waited for a core for more than `WAITING_LIMIT` of its block is made up for by another, up
    to `plan.rounds` of them.
    """
    for process in processes.values():
        process.ask(run_block, inputs, plan.warmup)
    rounds: list[dict[str, Block]] = []
    while sum(_waiting(done) <= WAITING_LIMIT for done in rounds) < plan.rounds and len(rounds) < 2 * plan.rounds:
        done = {name: processes[name].ask(run_block, inputs, plan.runs) for name in rng.permutation(list(processes))}
        rounds.append({name: done[name] for name in processes})
    return quietest(rounds, plan.rounds)


def started_anew(
    sides: Mapping[str, Side], cases: Mapping[str, Arrays], plan: Benchmark, rng: np.random.Generator
) -> dict[str, Samples]:
    """By case, `plan.rounds` rounds, each in processes that are started for it in an order drawn from `rng`.

    Where the memory of a process lies makes it up to 5 % faster or slower for as long as it lives, and the one that is
    opened first is the slowest: of two processes of one file, one is then "faster" in every round. Rounds of new
    processes are independent.
    """
    single = plan.model_copy(update={"rounds": 1})
    found: dict[str, list[Samples]] = {label: [] for label in cases}
    for _ in range(plan.rounds):
        with open_processes(in_new_order(sides, rng)) as processes:
            for label, inputs in cases.items():
                found[label].append(interleave({name: processes[name] for name in sides}, inputs, single, rng))
    return {label: joined(parts) for label, parts in found.items()}


def in_new_order(sides: Mapping[str, Side], rng: np.random.Generator) -> dict[str, Side]:
    """The sides, in an order drawn from `rng`: what is to be opened first."""
    return {name: sides[name] for name in rng.permutation(list(sides))}


def joined(parts: Sequence[Samples]) -> Samples:
    """The rounds of several measurements, one after the other, of the sides that are in all of them."""
    waited = [part.waiting_share for part in parts if part.waiting_share is not None]
    sides = [name for name in parts[-1].latencies_ms if all(name in part.latencies_ms for part in parts)]
    return Samples(
        latencies_ms={name: np.concatenate([part.latencies_ms[name] for part in parts]) for name in sides},
        waiting_share=float(np.median(waited)) if len(waited) == len(parts) else None,
    )


def quietest(rounds: Sequence[Mapping[str, Block]], count: int) -> Samples:
    """The samples of the `count` rounds in which the sides, by name, waited least for a core."""
    kept = sorted(rounds, key=_waiting)[:count]
    known = all(block.waiting_share is not None for done in kept for block in done.values())
    return Samples(
        latencies_ms={name: np.array([done[name].latencies_ms for done in kept]) for name in kept[0]},
        waiting_share=_waiting(kept[-1]) if known else None,
    )


def _waiting(done: Mapping[str, Block]) -> float:
    return max(block.waiting_share or 0.0 for block in done.values())
