"""The sides of a benchmark: PyTorch's eager mode, what torch.compile makes of it, and ONNX Runtime.

Each side runs in a process of its own (`child`), so everything heavy is imported inside functions: if the
process of ONNX Runtime carried torch, or that of PyTorch ONNX Runtime, their memory would mean nothing.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy.typing as npt

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError, ModelbuildError, PackageError

if TYPE_CHECKING:
    from modelbuild.component import Named
    from modelbuild.runtime.session import ProviderChoice, SessionSettings
    from modelbuild.stage_spec import StageModel
    from modelbuild.tasks import TaskName

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a loaded side says of itself: how long it took to load, where it runs, and its library's version."""

    load_ms: float
    device: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A side in the process that loaded it: `call` runs it once, numpy to numpy."""

    facts: Facts
    call: Callable[[Arrays], object]


class Side(Protocol):
    """What can be measured: `load` loads it into the current process, `error` is what its failures are raised as."""

    error: ClassVar[type[ModelbuildError]]

    def load(self) -> Loaded:
        """The side, ready to be called in this process."""
        ...


@dataclass(frozen=True, kw_only=True)
class PytorchSide:
    """One graph of the PyTorch original, `component`, in eager mode on the CPU, with `threads` threads."""

    error: ClassVar[type[ModelbuildError]] = ExportError
    model: StageModel
    task: TaskName
    component: str
    folder: Path | None
    threads: int
    weights: Path | None = None

    def load(self) -> Loaded:
        """The reference. Its load time is that of a second load: no imports, no disk, no checks of ours."""
        module, load_ms = self.load_module()
        return _on_cpu(module, load_ms)

    def load_module(self) -> tuple[Named, float]:
        """The module that computes the graph, with the threads of this process set, and its load time in ms."""
        import torch

        from modelbuild.families.split import components_of
        from modelbuild.reference import load_again, load_reference
        from modelbuild.tasks import TASKS

        torch.set_num_threads(self.threads)
        task = TASKS[self.task]
        load_reference(self.model, task, self.folder, self.weights)
        gc.collect()
        start = time.perf_counter_ns()
        model = load_again(self.model, task, self.folder, self.weights)
        load_ms = (time.perf_counter_ns() - start) / 1e6
        found = {component.name: component for component in components_of(model, task)}
        return found[self.component].module, load_ms


@dataclass(frozen=True, kw_only=True)
class CompiledSide:
    """What `torch.compile` makes of `eager`, for each shape apart. It compiles when it is first called, in its own
    process and with nothing that was compiled before; `scratch` is an empty folder for what the compiler makes.
    """

    error: ClassVar[type[ModelbuildError]] = ExportError
    eager: PytorchSide
    scratch: Path

    def load(self) -> Loaded:
        """The reference, to be compiled."""
        # Read when torch's compiler is imported. Processes of its own would outlive this one, which is killed.
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": str(self.scratch), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        module, load_ms = self.eager.load_module()
        module.compile(dynamic=False)
        return _on_cpu(module, load_ms)


def _on_cpu(module: Named, load_ms: float) -> Loaded:
    import torch

    from modelbuild.component import run_module

    return Loaded(
        facts=Facts(load_ms=load_ms, device="cpu", version=str(torch.__version__)),
        call=lambda inputs: run_module(module, inputs),
    )


@dataclass(frozen=True, kw_only=True)
class OnnxruntimeSide:
    """An ONNX file in a session that is opened as the runtime opens it."""

    error: ClassVar[type[ModelbuildError]] = PackageError
    model: Path
    outputs: tuple[str, ...]
    providers: tuple[ProviderChoice, ...]
    settings: SessionSettings
    allow_fallback: bool = False

    def load(self) -> Loaded:
        """The session. Its load time leaves out imports and the disk, as that of the other side does."""
        import onnxruntime

        from modelbuild.runtime.session import open_session

        for path in self.model.parent.glob(f"{self.model.name}*"):
            sha256_file(path)
        start = time.perf_counter_ns()
        session = open_session(
            self.model, providers=self.providers, settings=self.settings, allow_fallback=self.allow_fallback
        )
        load_ms = (time.perf_counter_ns() - start) / 1e6
        return Loaded(
            facts=Facts(load_ms=load_ms, device=session.get_providers()[0], version=onnxruntime.__version__),
            call=lambda inputs: session.run(list(self.outputs), dict(inputs)),
        )
