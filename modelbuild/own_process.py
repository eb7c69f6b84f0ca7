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


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent ends, so that nothing works on after its build is gone.
    `parent` is the process that started this one, where that is known; it may be gone by now. Raises Interrupted then.
    """
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise Interrupted("the build ended while a process of it was starting")
