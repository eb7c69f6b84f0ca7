"""Measuring sides against each other: a process for each, blocks interleaved, and only one of them awake at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import psutil

from modelbuild.errors import HostError, ModelbuildError
from modelbuild.sides import Arrays, Facts, Loaded, Side, latencies_ms
from modelbuild.statistics import Floats

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_TIMEOUT_S = 1800.0


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
            self._control.suspend()
        except (EOFError, ConnectionError, psutil.NoSuchProcess) as error:
            raise self._died() from error
        if isinstance(answer, ModelbuildError):
            raise answer
        return answer

    def _died(self) -> HostError:
        status = self._process.wait()
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
        return HostError(f"the process of {self._name} ended {how}", hint="is there enough memory?")

    def _end(self) -> None:
        self._connection.close()
        # Not terminate: a suspended process takes no other signal.
        self._process.kill()
        self._process.wait()


def _start(fd: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter with our import path and none of our modules, so that its memory is that of the side."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "modelbuild.measured_process", str(fd), str(os.getpid())],
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        stdout=2,
        env=os.environ | {"PYTHONPATH": path},
    )


@contextmanager
def open_processes(sides: Mapping[str, Side]) -> Iterator[dict[str, MeasuredProcess]]:
    """A process for each of `sides`, by name, loaded one after the other; when the block is left they have ended."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(MeasuredProcess(name, side)) for name, side in sides.items()}


def interleave(
    processes: Mapping[str, MeasuredProcess],
    inputs: Arrays,
    *,
    rounds: int,
    runs: int,
    warmup: int,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Latencies in ms by name, each `(rounds, runs)`: in every round `runs` calls of each, the order drawn from `rng`.

    Not counted are `warmup` calls of each before the first round, and one before each block: what ran before has left
    the caches full of its own.
    """
    for process in processes.values():
        process.ask(latencies_ms, inputs, warmup)
    names = list(processes)
    blocks: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for index in rng.permutation(len(names)):
            name = names[index]
            blocks[name].append(processes[name].ask(latencies_ms, inputs, runs + 1)[1:])
    return {name: np.array(block) for name, block in blocks.items()}
