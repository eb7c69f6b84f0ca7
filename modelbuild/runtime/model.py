"""An open package: run it from any thread, ask how it does, close it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from modelbuild.errors import ClosedError, HostError, InputError, first_line
from modelbuild.manifest import Manifest
from modelbuild.runtime.forks import keep_for_ever, tell_of_forks
from modelbuild.runtime.inputs import InputCheck
from modelbuild.runtime.metrics import GraphMetrics, Metrics
from modelbuild.runtime.selfcheck import Difference, Golden, differences, read_golden
from modelbuild.suggest import did_you_mean

if TYPE_CHECKING:
    from modelbuild.runtime.text import TextEncoder

Array = npt.NDArray[Any]
# Called with the name of the graph around every run: a span of a tracer, for one.
Around = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the golden inputs gave just now: `outputs` beside the golden ones, and in how many `seconds`.

    `problem` says what is wrong, in one line, and is empty where nothing is.
    """

    problem: str
    seconds: float
    outputs: tuple[Difference, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the model computes what it did where it was built."""
        return not self.problem


class Model:
    """A loaded package: its `manifest`, its `folder`, and the sha256 of its manifest, which is its `digest` in a
    registry too.

    One model serves all threads: ONNX Runtime's sessions may be run from many at once, and one that is shared is as
    fast as one for each. A process that was forked off needs a model of its own, for the threads of a session are not
    in it. `close` may be called while others run: they come to their end.
    """

    def __init__(
        self,
        manifest: Manifest,
        sessions: Mapping[str, ort.InferenceSession],
        folder: Path,
        *,
        golden: Golden | None = None,
        check_ids: bool = True,
        check_finite: bool = False,
        slow_s: float | None = None,
        around: Around | None = None,
    ) -> None:
        self.manifest = manifest
        self.folder = folder
        self.digest = manifest.digest
        self._sessions: Mapping[str, ort.InferenceSession] | None = sessions
        self._fitting = {
            name: InputCheck(
                graph.signature,
                graph.limits,
                may_be_empty=frozenset(graph.may_be_empty),
                sums=graph.sums,
                steps=graph.steps,
                ids=graph.ids if check_ids else {},
                finite=check_finite,
            )
            for name, graph in manifest.graphs.items()
        }
        self._around = around
        self._slow_s = slow_s
        self._outputs = {name: list(graph.signature.output_names()) for name, graph in manifest.graphs.items()}
        self._pid = os.getpid()
        self._golden = golden
        self._encoder: TextEncoder | None = None
        self._begin()
        tell_of_forks(self)

    def _begin(self) -> None:
        """Count nothing yet, and let nobody wait: at first, and in a process that was forked off."""
        self._metrics = Metrics(self.manifest.name, self.manifest.graphs, slow_s=self._slow_s)
        self._encoder_lock = threading.Lock()

    def after_fork(self) -> None:
        """Keep the sessions, which cannot end in this process, and nobody waiting."""
        if self._sessions is not None:
            keep_for_ever(self._sessions)
        self._begin()

    def __repr__(self) -> str:
        sessions = self._sessions
        state = ", ".join(next(iter(sessions.values())).get_providers()) if sessions else "closed"
        return f"<Model {self.manifest.name} {self.digest[:12]}, {state}>"

    def run(self, inputs: Mapping[str, Any], graph: str | None = None) -> dict[str, Array]:
        """The outputs by name. `inputs` are arrays by name; whatever numpy can read as one (lists, torch and jax
        tensors) will do.

        `graph` is which one of `manifest.graphs` to run, where there are several. Raises InputError when there is no
        such graph, when the inputs do not fit its signature or hold values the model cannot take, such as a token id
        beyond its vocabulary; HostError when ONNX Runtime fails for another reason, such as memory, or the process was
        forked; and ClosedError after `close`.
        """
        name = self._graph(graph)
        began = time.perf_counter()
        self._metrics.began(name)
        try:
            outputs = self._run(name, inputs) if self._around is None else self._run_inside(self._around, name, inputs)
        except BaseException as error:
            self._metrics.failed(name, error)
            raise
        self._metrics.ended(name, time.perf_counter() - began)
        return outputs

    def _run_inside(self, around: Around, name: str, inputs: Mapping[str, Any]) -> dict[str, Array]:
        outputs: dict[str, Array] | None = None
        with around(name):
            outputs = self._run(name, inputs)
        if outputs is None:
            raise HostError("it failed, and `around` swallowed the error", where=self.manifest.name)
        return outputs

    def _run(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Array]:
        session = self._open()[name]
        arrays = self._fitting[name](inputs)
        names = self._outputs[name]
        try:
            values = session.run(names, arrays)
        except Exception as error:
            if "INVALID_ARGUMENT" in str(error):
                raise InputError(f"the model cannot take these values: {error}") from error
            raise HostError(f"ONNX Runtime failed: {error}", where=self.manifest.name) from error
        return dict(zip(names, values, strict=True))

    def _open(self) -> Mapping[str, ort.InferenceSession]:
        """The sessions, if they are still of use."""
        sessions = self._sessions
        if sessions is None:
            raise ClosedError("the model is closed", where=self.manifest.name, hint="load it again")
        if self._pid != os.getpid():
            raise HostError(
                "the model was loaded before this process was forked, and its threads are not in it",
                where=self.manifest.name,
                hint="load it in the process that runs it",
            )
        return sessions

    def _graph(self, name: str | None) -> str:
        known = self._outputs
        if name is None and len(known) == 1:
            return next(iter(known))
        if not isinstance(name, str):
            hint = f"the package has {', '.join(known)}"
            raise InputError("graph must say which one to run", where=self.manifest.name, hint=hint)
        if name not in known:
            raise InputError(f"there is no graph '{name}'", where=self.manifest.name, hint=did_you_mean(name, known))
        return name

    def encode(self, texts: str | Sequence[str], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """A vector for each text, `(texts, size)`, and `(size,)` for one text alone, by the tokenizer of the package
        and the pooling that it declares. They are cut to what the model takes, and `batch_size` run at once, by length.

        Raises HostError where the library `tokenizers` is not installed, PackageError where the package declares no
        pooling, InputError for what is no text, and what `run` raises.
        """
        with self._encoder_lock:
            if self._encoder is None:
                from modelbuild.runtime.text import TextEncoder

                self._encoder = TextEncoder(self)
        return self._encoder.encode(texts, batch_size)

    @property
    def providers(self) -> list[str]:
        """The execution providers of the sessions, by ONNX Runtime's names, the preferred one first."""
        return list(next(iter(self._open().values())).get_providers())

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._sessions is None

    @property
    def metrics(self) -> dict[str, GraphMetrics]:
        """What was counted until now, by graph: runs, errors by type, latencies, slow runs. Self-checks are no runs."""
        return self._metrics.snapshot()

    def health(self) -> Health:
        """Run the golden inputs and compare: whether the model still computes what it did where it was built.

        Raises nothing: what is wrong is the `problem` of what it returns.
        """
        began = time.perf_counter()
        try:
            self._golden = self._golden or read_golden(self.folder, self.manifest.graphs)
            found = tuple(differences(self._golden, lambda inputs, graph: self._run(graph, inputs)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is not well
            return Health(problem=first_line(error), seconds=time.perf_counter() - began)
        wrong = next((item for item in found if not item.passed), None)
        problem = (
            f"{wrong.graph}: {wrong.output} differs by {wrong.worst:.3g} (limit {wrong.limit:.3g})" if wrong else ""
        )
        return Health(problem=problem, seconds=time.perf_counter() - began, outputs=found)

    def close(self) -> None:
        """Let go of the sessions and of their memory, once those who run them are through. Twice is once."""
        self._sessions = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
