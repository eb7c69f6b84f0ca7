"""Builds in processes of their own, as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from modelbuild.pipeline.journal import Event, read_journal

TINY = ("model=bert-tiny", "validation=quick", "benchmark=off", "optimization=none")
_DEADLINE_S = 300


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`python -m modelbuild` with `arguments`, in a process group of its own as a terminal would give it."""
    return subprocess.Popen(
        [sys.executable, "-m", "modelbuild", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_listen_to_control_c,
    )


def _listen_to_control_c() -> None:
    """A shell that starts tests in the background has them ignore Ctrl-C, and their children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=_DEADLINE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def dvc(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`dvc` with `arguments`, where `python` is the one that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def builds(workspace: Path) -> list[Path]:
    """The ad hoc builds of a workspace."""
    return sorted(path.parent for path in (workspace / "artifacts" / "adhoc").glob("*/dvc.yaml"))


def events(workspace: Path) -> list[Event]:
    """What happened in all ad hoc builds of a workspace."""
    return [event for folder in builds(workspace) for event in read_journal(folder)]


def stages_started(workspace: Path) -> Counter[str]:
    """How often a process was started for each stage, over all ad hoc builds."""
    return Counter(event.stage for event in events(workspace) if event.what == "started")


def wait_for(condition: Callable[[], object]) -> None:
    """Return as soon as `condition` holds. Fails when it never does."""
    until = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def leftovers(workspace: Path) -> list[Path]:
    """Scratch folders that a build left behind."""
    return [path for path in (workspace / "artifacts").rglob(".*.tmp") if path.is_dir()]
