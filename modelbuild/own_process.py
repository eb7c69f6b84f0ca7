"""A Python process of ours: it imports from where this one does, and nothing from the folder that it is started in."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from modelbuild.errors import Interrupted

_PR_SET_PDEATHSIG = 1


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module of ours as a program, with `environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """The variables of this process, and its import path: modelbuild is found even where it is not installed."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return os.environ | {"PYTHONPATH": path}


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, so that no stage works on after its build is gone."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise Interrupted("the build ended while a stage was starting")
