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

from modelbuild.candidates import CANDIDATES
from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.exporters import EXPORTERS
from modelbuild.families import FAMILIES
from modelbuild.pipeline.fingerprint import host
from modelbuild.pipeline.fork_requests import Wanted
from modelbuild.pipeline.warm import ENVIRONMENT, warm
from modelbuild.pipeline.worker import _TRACING, wanted
from modelbuild.precisions import PRECISIONS
from modelbuild.resolve import resolve
from modelbuild.stage_slices import stage_specs
from modelbuild.stages import STAGES

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


# Like a large library, which takes its time.
SLOW = """
import pathlib, time
pathlib.Path("importing").touch()
time.sleep(float(pathlib.Path("seconds").read_text()))
"""


@pytest.fixture(autouse=True)
def _build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder like that of a build, which is the current one, with modules of its own beside it."""
    (tmp_path / "build").mkdir()
    monkeypatch.chdir(tmp_path / "build")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))


@contextmanager
def serving(text: str, **stages: Wanted) -> Iterator[dict[str, str]]:
    """The variables of a process that has imported a module of that text."""
    Path("..", "changes_cli.py").write_text(text)
    mine = Wanted(modules=["changes_cli"])
    with warm({"export": mine, "package": mine, **stages}) as variables:
        yield variables


def ask(stage: str, variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "modelbuild", "stage", stage], env=os.environ | variables | {"MINE": "yes"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def answer(stage: str, variables: dict[str, str]) -> tuple[int, str, str]:
    with ask(stage, variables) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(file: str) -> str:
    """What is in a file, once there is something."""
    deadline = time.monotonic() + 30
    while not (found := Path(file).read_text() if Path(file).exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_stage_is_done_elsewhere_as_if_it_were_here(tmp_path: Path) -> None:
    with serving(SAYS) as variables:
        code, out, err = answer("export", variables)
    assert (code, err) == (3, "and complains\n")
    did, stage, folder, mine, path, parent = out.split()
    assert (did, stage, folder, mine, path) == ("did", "export", str(tmp_path / "build"), "yes", "None")
    assert int(parent) not in (0, 1)


def test_stages_are_forked_off_one_process() -> None:
    with serving(SAYS) as variables:
        parents = {answer(stage, variables)[1].split()[-1] for stage in ("export", "package", "export")}
    assert len(parents) == 1


def test_where_nobody_serves_a_stage_works_itself() -> None:
    for variables in ({}, {ENVIRONMENT: "nobody"}):
        code, _, err = answer("export", variables)
        assert code == 2
        assert err.startswith("error[CFG]: not the folder of a build: ")


def test_after_a_module_that_cannot_be_imported_stages_work_themselves() -> None:
    broken = "raise ImportError('no')"
    with serving(broken, optimize=Wanted(modules=["there.is.none"])) as variables:
        for stage in ("export", "optimize", "export"):
            code, _, err = answer(stage, variables)
            assert code == 2
            assert err.startswith("error[CFG]: not the folder of a build: ")


def test_a_stage_that_a_signal_ends_is_told_from_one_that_fails() -> None:
    with serving(DIES) as variables:
        assert answer("export", variables)[0] == 128 + signal.SIGSEGV
        assert answer("export", variables)[0] == 128 + signal.SIGSEGV  # it serves on


def test_a_stage_ends_with_who_asked_for_it() -> None:
    with serving(SLEEPS) as variables, ask("export", variables) as asking:
        stage = psutil.Process(int(until("pid")))
        asking.kill()
        asking.communicate()
        stage.wait(timeout=30)


def test_who_asked_ends_with_the_stage() -> None:
    with serving(SLEEPS) as variables, ask("export", variables) as asking:
        psutil.Process(int(until("pid"))).kill()
        asking.communicate(timeout=30)
        assert asking.returncode == 128 + signal.SIGKILL


def test_at_the_end_of_the_build_nothing_is_left() -> None:
    with serving(SLEEPS) as variables:
        asking = ask("export", variables)
        stage = psutil.Process(int(until("pid")))
    stage.wait(timeout=30)
    asking.communicate(timeout=30)
    assert asking.returncode == 128 + signal.SIGKILL
    assert not Path(variables[ENVIRONMENT]).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_while_it_waits_for_imports_a_stage_ends_with_its_build(number: int) -> None:
    """Whoever asks does not go on alone, without the lock of the build."""
    Path("seconds").write_text("60")
    worker = (
        "import os, subprocess, sys\n"
        "from modelbuild.pipeline.warm import Wanted, warm\n"
        "with warm({'export': Wanted(modules=['changes_cli']), 'package': Wanted(modules=[])}) as variables:\n"
        "    asking = subprocess.Popen([sys.executable, '-P', '-m', 'modelbuild', 'stage', 'export'],\n"
        "                              env=os.environ | variables)\n"
        "    print(asking.pid, flush=True)\n"
        "    asking.wait()\n"
    )
    Path("..", "changes_cli.py").write_text(SLOW)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", worker], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        asking = psutil.Process(int(process.stdout.readline()))
        deadline = time.monotonic() + 30
        while not Path("importing").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)  # by then it waits
        servers = [child for child in psutil.Process(process.pid).children() if child.pid != asking.pid]
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        for gone in (asking, *servers):
            gone.wait(timeout=10)
        process.communicate()
    assert len(servers) == 1


def test_nothing_is_imported_beside_a_stage_that_measures() -> None:
    Path("seconds").write_text("0")
    Path("..", "slow.py").write_text(SLOW)
    measuring = Wanted(modules=["changes_cli"], measures=True)
    Path("..", "changes_cli.py").write_text(SLEEPS)
    stages = {"optimize": measuring, "validate": Wanted(modules=["slow"])}
    with warm(stages) as variables, ask("optimize", variables) as asking:
        stage = psutil.Process(int(until("pid")))
        imported = Path("importing").exists()  # it may have been before it was asked
        time.sleep(0.5)
        assert Path("importing").exists() == imported
        stage.kill()
        asking.communicate(timeout=30)
        until_imported = time.monotonic() + 30
        while not Path("importing").exists():
            assert time.monotonic() < until_imported
            time.sleep(0.02)


def test_there_is_none_for_one_stage_alone() -> None:
    with warm({"export": Wanted(modules=["json"])}) as variables:
        assert variables == {}


def test_where_there_is_a_gpu_no_stage_is_forked_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelbuild.pipeline.warm._GPUS", (str(tmp_path),))
    with serving(SAYS) as variables:
        assert variables == {}


def test_a_build_goes_on_where_no_socket_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelbuild.pipeline.warm._SOCKET", ".dvc/tmp/" + "long" * 50)
    with serving(SAYS) as variables:
        assert variables == {}


def test_a_socket_that_a_killed_build_left_is_replaced() -> None:
    with serving(SAYS) as variables:
        path = Path(variables[ENVIRONMENT])
    path.touch()
    with serving(SAYS) as variables:
        assert answer("export", variables)[0] == 3


def modules(stage: str, *overrides: str) -> list[str]:
    """What a stage of that build imports, by the last part of the name."""
    spec = compose(["model=bert-tiny", *overrides], Path.cwd()).spec
    found = wanted(stage, stage_specs(resolve(spec, sha256_file), host())[stage])
    return [name.rpartition(".")[2] for name in found.modules]


def test_a_stage_imports_what_does_its_work_and_one_that_is_off_nothing() -> None:
    assert modules("export")[:2] == ["reference:import_models", "export"]
    assert modules("export")[-1] == "translate:import_tracing"
    assert not [name for name in modules("export", "exporter=optimum") if "tracing" in name]
    assert modules("validate")[0] == "reference:import_models"
    for group in ("validation", "benchmark", "sidecar"):
        stage = {"validation": "validate"}.get(group, group)
        assert modules(stage, f"{group}=off") == ["off"]


@pytest.mark.parametrize(
    ("stage", "overrides", "measures"),
    [
        ("optimize", [], False),
        ("optimize", ["optimization=auto"], True),
        ("optimize", ["session=auto"], True),
        ("benchmark", [], True),
        ("benchmark", ["benchmark=off"], False),
        ("validate", [], False),
    ],
)
def test_stages_that_measure_are_known(stage: str, overrides: list[str], measures: bool) -> None:
    spec = compose(["model=bert-tiny", *overrides], Path.cwd()).spec
    assert wanted(stage, stage_specs(resolve(spec, sha256_file), host())[stage]).measures == measures


@pytest.mark.slow
def test_what_stages_import_leaves_no_thread_that_a_fork_would_miss() -> None:
    every = [f"modelbuild.stages.{stage}" for stage in STAGES]
    every += [*EXPORTERS.values(), *CANDIDATES.values(), *PRECISIONS.values(), *FAMILIES.values()]
    stage = Wanted(modules=[*sorted(set(every)), "modelbuild.reference:import_models", _TRACING])
    with warm({"export": stage, "package": Wanted(modules=[])}) as variables:
        answer("export", variables)
        served = [process for process in psutil.Process().children() if "fork_server" in " ".join(process.cmdline())]
        assert [process.num_threads() for process in served] == [1]
