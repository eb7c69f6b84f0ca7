"""Every command of the README is run, and does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
    code = re.search(r"```python\n(from modelbuild.runtime .*?)```", README, re.DOTALL)
    assert code
    tiny = code.group(1).replace("dist/minilm", "dist/bert-tiny").replace("7592, 2088", "75, 20")
    names: dict[str, Any] = {}
    exec(tiny.replace("[101,", "[11,").replace("102]", "12]"), names)
    assert names["outputs"]["last_hidden_state"].shape == (1, 4, 32)


# Where torch cannot be imported: numbers in, numbers out.
_SERVED = """
import sys
import numpy as np

sys.modules["torch"] = None
from modelbuild.runtime import load

given = dict(np.load("given.npz"))
np.savez("answers.npz", **load("dist/tagger").run(given))
"""


@pytest.mark.slow
def test_a_module_of_ones_own_is_built_from_the_two_files_shown_and_served_without_torch(workspace: Path) -> None:
    for name in ("tagger.py", "conf/model/tagger.yaml"):
        found = re.search(rf"```\w+\n(# {name}\n.*?)```", README, re.DOTALL)
        assert found
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(found.group(1), encoding="utf-8")
    assert len((workspace / "tagger.py").read_text(encoding="utf-8").splitlines()) <= 30
    (command,) = _block("command: module")
    finished = run(*shlex.split(command)[3:], cwd=workspace)
    assert finished.returncode == 0, finished.stderr
    names: dict[str, Any] = {"__name__": "tagger"}
    exec((workspace / "tagger.py").read_text(encoding="utf-8"), names)
    torch.manual_seed(0)
    module = names["Tagger"](classes=3).eval()
    features = np.random.default_rng(0).standard_normal((4, 11, 16)).astype(np.float32)
    lengths = np.array([11, 1, 5, 7])
    np.savez(workspace / "given.npz", features=features, lengths=lengths)
    subprocess.run([sys.executable, "-c", _SERVED], cwd=workspace, check=True)
    answers = np.load(workspace / "answers.npz")
    with torch.inference_mode():
        expected = module(torch.from_numpy(features), torch.from_numpy(lengths))
    assert {name: value.shape for name, value in expected.items()} == {n: answers[n].shape for n in answers.files}
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value.numpy(), rtol=1e-4, atol=1e-5)


def test_every_command_of_the_table_exists() -> None:
    named = set(re.findall(r"`python -m modelbuild (\w+)(?: …| PACKAGE)?`", README))
    assert named == set(COMMANDS) - {"compose", "stage"}  # which dvc.yaml calls
