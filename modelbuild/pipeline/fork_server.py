"""The process that imports for the stages of a build, and forks them off: see `warm`, which starts it.

A fork has the one thread that forked. What is imported here starts none that a stage would miss: libraries start theirs
when they first compute, and OpenBLAS ends its own before a fork.
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
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from modelbuild.own_process import die_with_parent
from modelbuild.pipeline.fork_requests import KILLED, LENGTH_BYTES, STATUS_BYTES, TAKEN, Wanted, received
from modelbuild.quick_imports import import_quickly

_ASKED_WITHIN_S, _LOOK_AROUND_S = 10, 5


@dataclass(kw_only=True, eq=False)
class _Request:
    """A stage that somebody asks for, and the process that does it once there is one."""

    connection: socket.socket
    output: Sequence[int]
    stage: str
    folder: str
    environment: dict[str, str]
    process: int = 0
    watched: int = -1


class _Server:
    def __init__(self, listener: socket.socket, parent: int, stages: Mapping[str, Wanted]) -> None:
        self._parent = parent
        self._missing = {name: list(stage.modules) for name, stage in stages.items()}
        self._measuring = {name for name, stage in stages.items() if stage.measures}
        self._broken = False
        self._requests: list[_Request] = []
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Import, a module at a time, and take requests in between, until the end of the build ends it; or notice that
        the build is gone, where the kernel was not to be asked.
        """
        while os.getppid() == self._parent:
            for key, _ in self._selector.select(0 if self._next() else _LOOK_AROUND_S):
                self._look(key)
            for request in list(self._requests):
                if self._broken and not request.process:
                    self._finish(request)
                elif not request.process and not self._missing.get(request.stage):
                    self._fork(request)
            stage = self._next()
            if stage:
                self._import(stage)

    def _next(self) -> str | None:
        """The stage to import for: one that is waited for, or the first; none beside one that measures."""
        if self._broken or any(request.process and request.stage in self._measuring for request in self._requests):
            return None
        asked = (request.stage for request in self._requests if not request.process)
        return next((stage for stage in [*asked, *self._missing] if self._missing.get(stage)), None)

    def _import(self, stage: str) -> None:
        """Import one module. One that cannot be leaves what would hide the reason: from then on every stage imports by
        itself, and says it.
        """
        module, _, function = self._missing[stage].pop(0).partition(":")
        try:
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()
        except Exception:  # noqa: BLE001 - whatever it is, the stage meets it again
            self._broken = True
        if not self._missing[stage]:
            gc.freeze()  # what is looked at for garbage is copied

    def _look(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._listener:
            self._accept()
        elif key.data in self._requests:
            self._finish(key.data)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        output: Sequence[int] = ()
        try:
            connection.settimeout(_ASKED_WITHIN_S)
            length, output, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 2)
            asked: dict[str, Any] = json.loads(received(connection, int.from_bytes(length, "big")))
            connection.settimeout(None)
            request = _Request(connection=connection, output=output, **asked)
        except (OSError, ValueError, TypeError):  # who asked works itself
            _close(connection, output)
            return
        self._requests.append(request)
        self._selector.register(connection, selectors.EVENT_READ, request)

    def _fork(self, request: _Request) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        others = [self._listener, *(other.connection for other in self._requests)]
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        server = os.getpid()
        process = os.fork()
        if process == 0:
            _work(request, others, server)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        try:
            request.watched = os.pidfd_open(process)
        except OSError:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self._finish(request)
            return
        for handle in request.output:  # the stage has them; no other fork is to
            os.close(handle)
        request.process, request.output = process, ()
        self._selector.register(request.watched, selectors.EVENT_READ, request)
        with suppress(OSError):
            request.connection.sendall(TAKEN)

    def _finish(self, request: _Request) -> None:
        """The process ended, or whoever asked for it is gone, and it ends too; or there is to be none."""
        self._requests.remove(request)
        self._selector.unregister(request.connection)
        if request.process:
            self._selector.unregister(request.watched)
            ended, status = os.waitpid(request.process, os.WNOHANG)
            if not ended:
                os.kill(request.process, signal.SIGKILL)
                _, status = os.waitpid(request.process, 0)
            os.close(request.watched)
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError):
                request.connection.sendall((code if code >= 0 else KILLED - code).to_bytes(STATUS_BYTES, "big"))
        _close(request.connection, request.output)


def _close(connection: socket.socket, handles: Sequence[int]) -> None:
    connection.close()
    for handle in handles:
        os.close(handle)


def _work(request: _Request, others: Sequence[socket.socket], server: int) -> None:
    """Be the stage: in the folder, with the environment and the output of who asked. Does not return."""
    code = 1
    try:
        die_with_parent(server)
        for connection in others:
            connection.close()
        signal.signal(signal.SIGINT, _CONTROL_C)
        os.environ.clear()
        os.environ.update(request.environment)
        os.chdir(request.folder)
        for stream, handle in zip((1, 2), request.output, strict=True):
            os.dup2(handle, stream)
            os.close(handle)
        sys.argv = ["modelbuild", "stage", request.stage]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        runpy.run_module("modelbuild", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - nobody is above it to whom it could be raised
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# What this process was started with is what its stages get; it does not end at Ctrl-C itself, for the worker ends it.
_CONTROL_C = signal.getsignal(signal.SIGINT)


def main() -> None:
    """Serve the build that started this process. Raises OSError where a process cannot be watched."""
    listener, parent, wanted = sys.argv[1:]
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.close(os.pidfd_open(os.getpid()))
    gc.disable()
    import_quickly()
    stages = {name: Wanted(**stage) for name, stage in json.loads(wanted).items()}
    _Server(socket.socket(fileno=int(listener)), int(parent), stages).serve()


if __name__ == "__main__":
    main()
