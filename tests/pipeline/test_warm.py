"""Stages that are forked off: in the folder, the environment and the output of who asked, and gone when that one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from modelbuild.pipeline.warm import ENVIRONMENT, warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has what it takes")

# What a module that the process imports makes of every stage.
SAYS = """
import os, sys
import modelbuild.cli
def main():
    print("did", sys.argv[2], os.getcwd(), os.environ["MINE"], os.environ.get("MODELBUILD_WARM"), os.getppid())
    print("and complains", file=sys.stderr)
    return 3
modelbuild.cli.main = main
"""
SLEEPS = """
import pathlib, os, time
import modelbuild.cli
def main():
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
modelbuild.cli.main = main
"""
DIES = """
import os, signal
import modelbuild.cli
modelbuild.cli.main = lambda: os.kill(os.getpid(), signal.SIGSEGV)
"""


@contextmanager
def serving(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, **stages: list[str]) -> Iterator[dict[str, str]]:
    """The variables of a process that has imported a module of that text."""
    folder.mkdir(exist_ok=True)
    (folder / "changes_cli.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    with warm({"export": ["changes_cli"], "package": ["changes_cli"], **stages}) as variables:
        yield variables


def ask(stage: str, folder: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modelbuild", "stage", stage],
        cwd=folder, env=os.environ | variables | {"MINE": "yes"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def answer(stage: str, folder: Path, variables: dict[str, str]) -> tuple[int, str, str]:
    with ask(stage, folder, variables) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def sleeping(folder: Path) -> psutil.Process:
    """The stage that `SLEEPS` makes, once it is at it."""
    deadline = time.monotonic() + 30
    while not (found := Path(folder, "pid").read_text() if Path(folder, "pid").exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return psutil.Process(int(found))


def test_a_stage_is_done_elsewhere_as_if_it_were_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path / "modules", SAYS, monkeypatch) as variables:
        code, out, err = answer("export", tmp_path, variables)
    assert (code, err) == (3, "and complains\n")
    did, stage, folder, mine, path, parent = out.split()
    assert (did, stage, folder, mine, path) == ("did", "export", str(tmp_path), "yes", "None")
    assert int(parent) not in (0, 1)


def test_stages_are_forked_off_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path / "modules", SAYS, monkeypatch) as variables:
        parents = {answer(stage, tmp_path, variables)[1].split()[-1] for stage in ("export", "package", "export")}
    assert len(parents) == 1


def test_where_nobody_serves_a_stage_works_itself(tmp_path: Path) -> None:
    for variables in ({}, {ENVIRONMENT: str(tmp_path / "nobody")}):
        code, _, err = answer("export", tmp_path, variables)
        assert code == 2
        assert err.startswith("error[CFG]: not the folder of a build: ")


def test_a_module_that_cannot_be_imported_is_left_to_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "raise ImportError('no')"
    with serving(tmp_path / "modules", broken, monkeypatch, optimize=["there.is.none"]) as variables:
        for stage in ("export", "optimize"):
            code, _, err = answer(stage, tmp_path, variables)
            assert code == 2
            assert err.startswith("error[CFG]: not the folder of a build: ")


def test_a_stage_that_a_signal_ends_is_told_from_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path / "modules", DIES, monkeypatch) as variables:
        assert answer("export", tmp_path, variables)[0] == 128 + signal.SIGSEGV
        assert answer("export", tmp_path, variables)[0] == 128 + signal.SIGSEGV  # it serves on


def test_a_stage_ends_with_who_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path / "modules", SLEEPS, monkeypatch) as variables, ask("export", tmp_path, variables) as asking:
        stage = sleeping(tmp_path)
        asking.kill()
        asking.communicate()
        stage.wait(timeout=30)


def test_who_asked_ends_with_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path / "modules", SLEEPS, monkeypatch) as variables, ask("export", tmp_path, variables) as asking:
        sleeping(tmp_path).kill()
        asking.communicate(timeout=30)
        assert asking.returncode == 128 + signal.SIGKILL


def test_at_the_end_of_the_build_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path / "modules", SLEEPS, monkeypatch) as variables:
        asking = ask("export", tmp_path, variables)
        stage = sleeping(tmp_path)
    stage.wait(timeout=30)
    asking.communicate(timeout=30)
    assert asking.returncode == 128 + signal.SIGKILL
    assert not Path(variables[ENVIRONMENT]).exists()


def test_one_stage_alone_is_not_served() -> None:
    with warm({"export": ["modelbuild.stages.export"]}) as variables:
        assert variables == {}


def test_where_there_is_a_gpu_no_stage_is_forked_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelbuild.pipeline.warm._NVIDIA", tmp_path)
    with warm({"export": ["json"], "package": ["json"]}) as variables:
        assert variables == {}


def test_a_socket_has_no_room_for_a_name_that_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 25)))
    with warm({"export": ["json"], "package": ["json"]}) as variables:
        assert variables == {}


@pytest.mark.slow
def test_what_stages_import_starts_no_thread(tmp_path: Path) -> None:
    """A fork has the thread that forked only: what another one held or did would be missing in every stage."""
    modules = {stage: [f"modelbuild.stages.{stage}"] for stage in ("export", "optimize", "validate", "package")}
    modules["validate"] += ["modelbuild.reference:import_models", "torch.export._trace"]
    with warm(modules) as variables:
        for stage in modules:
            answer(stage, tmp_path, variables)
        served = [process for process in psutil.Process().children() if "modelbuild.pipeline.warm" in process.cmdline()]
        assert [process.num_threads() for process in served] == [1]
