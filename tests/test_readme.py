"""Every command of the README is run, and does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from processes import run

from modelbuild.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _block(mark: str) -> list[str]:
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block marked {mark}"
    return found.group(1).splitlines()


def test_ci_runs_the_two_commands_as_they_stand() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert "for name in build test" in script
    assert _block("command: build")[0].endswith("&& python -m modelbuild")
    assert _block("command: test")[0].endswith("&& python -m pytest")
    assert [len(_block(f"command: {name}")) for name in ("build", "test")] == [1, 1]


def test_the_refusal_shown_is_the_one_given(workspace: Path) -> None:
    found = re.search(r"```console\n\$ python -m modelbuild (.*?)\n(.*?)```", README, re.DOTALL)
    assert found
    finished = run(*shlex.split(found.group(1)), cwd=workspace)
    assert finished.returncode == 2
    assert finished.stderr == found.group(2)
    assert list(workspace.iterdir()) == []


@pytest.mark.slow
def test_the_commands_work_one_after_the_other(workspace: Path) -> None:
    for command in _block("tested"):
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "modelbuild"]
        finished = run(*words[3:], cwd=workspace)
        assert finished.returncode == 0, f"{command}\n{finished.stderr}"
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    tiny = code.group(1).replace("dist/minilm", "dist/bert-tiny").replace("7592, 2088", "75, 20")
    names: dict[str, Any] = {}
    exec(tiny.replace("[101,", "[11,").replace("102]", "12]"), names)
    assert names["outputs"]["last_hidden_state"].shape == (1, 4, 32)


def test_every_command_of_the_table_exists() -> None:
    named = set(re.findall(r"`python -m modelbuild (\w+)(?: …)?`", README))
    assert named == {"plan", "why", "gc"} < set(COMMANDS)
