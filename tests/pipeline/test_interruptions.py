"""Whatever is killed in the middle, the next run completes, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from processes import TINY, events, leftovers, run, stages_started, start, wait_for

from modelbuild.stages import STAGES

pytestmark = pytest.mark.slow


def _pid_of_export(workspace: Path) -> int:
    wait_for(lambda: any(event.stage == "export" for event in events(workspace)))
    return next(event.pid for event in events(workspace) if event.stage == "export")


def _kill_command(process: subprocess.Popen[str], stage: int) -> None:
    process.kill()


def _kill_worker(process: subprocess.Popen[str], stage: int) -> None:
    around = psutil.Process(stage).parents()
    next(parent for parent in around if "modelbuild.pipeline.worker" in parent.cmdline()).kill()
    wait_for(lambda: not psutil.pid_exists(stage) or psutil.Process(stage).status() == psutil.STATUS_ZOMBIE)


def _kill_stage(process: subprocess.Popen[str], stage: int) -> None:
    os.kill(stage, signal.SIGKILL)


def _control_c(process: subprocess.Popen[str], stage: int) -> None:
    os.killpg(process.pid, signal.SIGINT)


def _terminate(process: subprocess.Popen[str], stage: int) -> None:
    process.terminate()


@pytest.mark.parametrize(
    ("harm", "exit_code", "again"),
    [
        (_kill_command, -signal.SIGKILL, [[]]),  # its worker finishes, and nothing is done again
        (_kill_worker, 7, [["export"]]),
        (_kill_stage, 7, [["export"]]),
        (_control_c, 130, [["export"]]),
        # In the time that the worker is given, a model so small may come further.
        (_terminate, 130, [[], *([stage] for stage in STAGES)]),
    ],
)
def test_the_next_run_completes_after(
    harm: Callable[[subprocess.Popen[str], int], None], exit_code: int, again: list[list[str]], tmp_path: Path
) -> None:
    process = start(*TINY, cwd=tmp_path)
    stage = _pid_of_export(tmp_path)
    harm(process, stage)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_code, err
    assert "Traceback" not in err
    finished = run(*TINY, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    started = stages_started(tmp_path)
    assert [name for name, count in started.items() if count == 2] in again
    assert set(started.values()) <= {1, 2}
    assert leftovers(tmp_path) == []
    wait_for(lambda: not psutil.pid_exists(stage))
