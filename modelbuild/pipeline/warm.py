"""Stages that need not import anything: one process imports what a build needs, and its stages are forked off from it.

Half of what a stage of a small model takes is imports, and every stage of a build has them. The process imports while
DVC makes up its mind, and goes on for later stages while earlier ones run. A stage is still a process of its own, which
DVC starts: the command that DVC runs hands its work over and waits. Where nobody takes it, it works itself.

A fork takes no threads along, so that nothing here may start any: libraries start theirs when they first compute.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild.own_process import command, die_with_parent, environment
from modelbuild.quick_imports import import_quickly

ENVIRONMENT = "MODELBUILD_WARM"
# Whoever has asked a GPU's driver anything, as libraries do when they are imported, leaves no use of it to its forks.
_NVIDIA = Path("/proc/driver/nvidia")
_LONGEST_FOLDER = 80
_TAKEN = b"t"
_LENGTH, _STATUS = 4, 2
_KILLED = 128


@contextmanager
def warm(modules: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """A process that imports `modules` (`a.module`, or `a.module:function`, which is called), by stage, as long as the
    context lasts; and the variables by which a stage finds it. There is none for one stage alone, which imports as fast
    itself, nor where there is a GPU, no Linux, or a folder for temporary files whose name is too long for a socket's.
    """
    room = len(os.fsencode(tempfile.gettempdir())) < _LONGEST_FOLDER
    if len(modules) < 2 or _NVIDIA.is_dir() or sys.platform != "linux" or not room:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="modelbuild-") as folder:
        path = Path(folder) / "stages"
        with socket.socket(socket.AF_UNIX) as listener:  # who asks before the process is ready waits for it
            listener.bind(os.fspath(path))
            listener.listen()
            named = json.dumps({name: list(found) for name, found in modules.items()})
            process = subprocess.Popen(
                command(__name__, str(listener.fileno()), named),
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                env=environment() | {"HF_HUB_OFFLINE": "1"},
            )
        try:
            yield {ENVIRONMENT: str(path)}
        finally:
            process.kill()
            process.wait()


def hand_over(stage: str) -> int | None:
    """Have the stage done by the process of `warm`, in this one's folder, environment and output, and return its exit
    code; None where there is no such process.
    """
    path = os.environ.pop(ENVIRONMENT, "")
    if not path:
        return None
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the stage too, which knows what to do
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            request = json.dumps({"stage": stage, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
            socket.send_fds(connection, [len(request).to_bytes(_LENGTH, "big")], [1, 2])
            connection.sendall(request)
            if connection.recv(1) != _TAKEN:
                return None
            status = _received(connection, _STATUS)
            return int.from_bytes(status, "big") if status else _KILLED + signal.SIGKILL
    except OSError:
        return None
    finally:
        signal.signal(signal.SIGINT, before)


def _received(connection: socket.socket, length: int) -> bytes:
    """So many bytes, or none where the other side is gone."""
    found = b""
    while len(found) < length:
        part = connection.recv(length - len(found))
        if not part:
            return b""
        found += part
    return found


@dataclass(kw_only=True, eq=False)
class _Request:
    """A stage that somebody asks for, and the process that does it once there is one."""

    connection: socket.socket
    output: tuple[int, int]
    stage: str
    folder: str
    environment: dict[str, str]
    process: int = 0
    watched: int = -1


class _Server:
    def __init__(self, listener: socket.socket, modules: Mapping[str, Sequence[str]]) -> None:
        self._missing = {stage: list(names) for stage, names in modules.items()}
        self._requests: list[_Request] = []
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._selector.register(self._listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Import, a module at a time, and take requests in between, until the end of the build ends it."""
        while True:
            waiting = next((stage for stage, names in self._missing.items() if names), None)
            for key, _ in self._selector.select(0 if waiting else None):
                self._look(key)
            for request in self._requests:
                if not request.process and not self._missing.get(request.stage):
                    self._fork(request)
            if waiting:
                self._import(self._wanted() or waiting)

    def _wanted(self) -> str | None:
        """A stage that is waited for."""
        asked = (request.stage for request in self._requests if not request.process)
        return next((stage for stage in asked if self._missing.get(stage)), None)

    def _import(self, stage: str) -> None:
        module, _, function = self._missing[stage].pop(0).partition(":")
        with suppress(Exception):  # the stage meets it again, and says it
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()
        if not self._missing[stage]:
            gc.freeze()  # what is looked at for garbage is copied

    def _look(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._listener:
            self._accept()
        elif key.data in self._requests:
            self._finish(key.data)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        with suppress(OSError, ValueError, KeyError):
            connection.settimeout(10)
            length, output, _, _ = socket.recv_fds(connection, _LENGTH, 2)
            asked: dict[str, Any] = json.loads(_received(connection, int.from_bytes(length, "big")))
            connection.settimeout(None)
            request = _Request(connection=connection, output=(output[0], output[1]), **asked)
            self._requests.append(request)
            self._selector.register(connection, selectors.EVENT_READ, request)
            return
        connection.close()

    def _fork(self, request: _Request) -> None:
        process = os.fork()
        if process == 0:
            _work(request, [self._listener, *(other.connection for other in self._requests)])
        request.process, request.watched = process, os.pidfd_open(process)
        for handle in request.output:
            os.close(handle)
        self._selector.register(request.watched, selectors.EVENT_READ, request)
        with suppress(OSError):
            request.connection.sendall(_TAKEN)

    def _finish(self, request: _Request) -> None:
        """The process ended, or whoever asked for it is gone, and it ends too."""
        self._requests.remove(request)
        self._selector.unregister(request.connection)
        if request.process:
            self._selector.unregister(request.watched)
            if os.waitid(os.P_PIDFD, request.watched, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                os.kill(request.process, signal.SIGKILL)
            _, status = os.waitpid(request.process, 0)
            os.close(request.watched)
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError):
                request.connection.sendall((code if code >= 0 else _KILLED - code).to_bytes(_STATUS, "big"))
        request.connection.close()


def _work(request: _Request, others: Sequence[socket.socket]) -> None:
    """Be the stage: in the folder, with the environment and the output of who asked. Does not return."""
    code = 1
    try:
        die_with_parent()
        for connection in others:
            connection.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(request.environment)
        os.chdir(request.folder)
        for stream, handle in zip((1, 2), request.output, strict=True):
            os.dup2(handle, stream)
            os.close(handle)
        sys.argv = ["modelbuild", "stage", request.stage]
        runpy.run_module("modelbuild", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - nobody is above it to whom it could be raised
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve the build that started this process. Raises OSError where a process cannot be watched."""
    die_with_parent()
    os.close(os.pidfd_open(os.getpid()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    import_quickly()
    _Server(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
