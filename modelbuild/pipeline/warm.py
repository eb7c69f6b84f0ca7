"""Stages that need not import anything: one process imports what a build needs, and its stages are forked off from it.

Half of what a stage of a small model takes is imports, and every stage of a build has them. The process imports while
DVC makes up its mind, and goes on for later stages while earlier ones run. A stage is still a process of its own, which
DVC starts: the command that DVC runs hands its work over and waits. Where nobody takes it, it works itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from modelbuild.pipeline.fork_requests import KILLED, LENGTH_BYTES, STATUS_BYTES, TAKEN, Wanted, received

ENVIRONMENT = "MODELBUILD_WARM"
# In the folder of a build, which is the current one of its worker and of its stages.
_SOCKET = ".dvc/tmp/stages"
# Whoever has asked a GPU's driver anything, as libraries do when they are imported, leaves no use of it to its forks.
_GPUS = ("/proc/driver/nvidia", "/dev/dxg", "/dev/kfd", "/dev/nvmap")


@contextmanager
def warm(stages: Mapping[str, Wanted]) -> Iterator[dict[str, str]]:
    """A process that imports what `stages` want, as long as the context lasts, and the variables by which a stage finds
    it; the current folder is that of the build. There is none for one stage alone, which imports as fast itself, nor
    where there is a GPU or no Linux, or where a process or a socket cannot be had.
    """
    process = None
    with suppress(OSError):
        process = _start(stages)
    try:
        yield {ENVIRONMENT: _SOCKET} if process else {}
    finally:
        if process:
            process.kill()
            process.wait()
            Path(_SOCKET).unlink(missing_ok=True)


def _start(stages: Mapping[str, Wanted]) -> subprocess.Popen[bytes] | None:
    if len(stages) < 2 or sys.platform != "linux" or any(Path(gpu).exists() for gpu in _GPUS):
        return None
    Path(_SOCKET).parent.mkdir(parents=True, exist_ok=True)
    Path(_SOCKET).unlink(missing_ok=True)  # of a build that was killed
    with socket.socket(socket.AF_UNIX) as listener:  # who asks before the process is ready waits for it
        listener.bind(_SOCKET)
        listener.listen()
        wanted = json.dumps({name: asdict(stage) for name, stage in stages.items()})
        arguments = [str(listener.fileno()), str(os.getpid()), wanted]
        return subprocess.Popen(
            # As DVC starts a stage, but for the folder of the build, which holds no modules.
            [sys.executable, "-P", "-m", "modelbuild.pipeline.fork_server", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )


def hand_over(stage: str) -> int | None:
    """Have the stage done by the process of `warm`, in this one's folder, environment and output, and return its exit
    code; None where there is no such process. Ctrl-C ends the wait for it, and is the stage's once that has begun.
    """
    path = os.environ.pop(ENVIRONMENT, "")
    if not path:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            request = json.dumps({"stage": stage, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
            socket.send_fds(connection, [len(request).to_bytes(LENGTH_BYTES, "big")], [1, 2])
            connection.sendall(request)
            if connection.recv(1) != TAKEN:
                return None
        except OSError:
            return None
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            status = received(connection, STATUS_BYTES)
        except OSError:
            status = b""
        finally:
            signal.signal(signal.SIGINT, before)
    return int.from_bytes(status, "big") if status else KILLED + signal.SIGKILL
