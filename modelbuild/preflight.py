"""What can be known of this machine before any work: ONNX Runtime is there once, and has the providers."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from modelbuild.errors import HostError, ModelbuildError, PackageError
from modelbuild.providers import needs, ort_name
from modelbuild.spec import Providers

_WHEELS = ("onnxruntime", "onnxruntime-gpu")


def require_host(providers: Providers) -> None:
    """Raise HostError unless one ONNX Runtime is installed and really opens a session on the asked providers."""
    installed = [name for name in _WHEELS if _is_installed(name)]
    if len(installed) > 1:
        raise HostError(
            "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other",
            where="this Python environment",
            hint="pip uninstall both, then install modelbuild[cpu] or modelbuild[gpu]",
        )
    if importlib.util.find_spec("onnxruntime") is None:
        raise HostError(
            "ONNX Runtime is not installed",
            where="this Python environment",
            hint="pip install 'modelbuild[cpu]' (or [gpu])",
        )
    from modelbuild.runtime.session import require_available

    if not providers.allow_fallback:
        require_available(providers.order)
        if providers.order[0] != "cpu":
            _probe(providers)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _probe(providers: Providers) -> None:
    """Open a one-node model. A provider that is listed may still not load: only a session tells."""
    from onnx import TensorProto, helper, save

    from modelbuild.runtime.session import SessionSettings, open_session

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                with _stderr_into(log):
                    open_session(path, providers=providers.choices(), settings=SessionSettings())
            except (HostError, PackageError) as error:
                raise _does_not_load(providers, error, _content(log)) from error
            sys.stderr.write(_content(log))


@contextmanager
def _stderr_into(log: IO[str]) -> Iterator[None]:
    """What ONNX Runtime's own code writes to the standard error goes into `log`: many lines, one of them a reason."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _content(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _does_not_load(providers: Providers, error: ModelbuildError, log: str) -> HostError:
    reason = re.search(r"with error: (.+)", log)
    return HostError(
        error.problems[0].what,
        where=f"this machine ({reason.group(1).strip()})" if reason else "this machine",
        hint=f"{ort_name(providers.order[0])} needs {needs(providers.order[0])}; or choose providers=cpu",
    )
