"""The changes that CONTRIBUTING shows are made as they stand, and builds with them work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import modelbuild

REPOSITORY = Path(modelbuild.__file__).parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
_BUILD = """
import sys
from pathlib import Path
from families.building import FAST, build
build(Path(sys.argv[1]), *FAST, *sys.argv[2:])
"""


def shown(heading: str) -> str:
    """The diff in a section of the page."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```diff\n(.*?)```", section, re.DOTALL)
    assert found, f"the section '{heading}' has no diff"
    return found.group(1)


def change(diff: str, root: Path) -> None:
    """Make the change under `root`: new files, and lines that are added after one that is there once."""
    for part in diff.split("diff --git ")[1:]:
        name = part.partition(" b/")[2].partition("\n")[0]
        hunks = re.split(r"^@@.*\n", part, flags=re.MULTILINE)[1:]
        for hunk in hunks:
            added = "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line.startswith("+"))
            path = root / name
            if "\n--- /dev/null\n" in part:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(added, encoding="utf-8")
                continue
            before, text = f"{hunk.partition('+')[0][1:]}", path.read_text(encoding="utf-8")
            assert text.count(before) == 1, f"{name} has no such place: {before}"
            path.write_text(text.replace(before, before + added), encoding="utf-8")


def built(workspace: Path, root: Path, *overrides: str) -> str:
    """What the package built from `overrides` says of itself, by the modelbuild in `root`."""
    out = workspace / "out"
    out.mkdir()
    path = os.pathsep.join([str(root), str(REPOSITORY / "tests")])
    finished = subprocess.run(
        [sys.executable, "-c", _BUILD, str(out), *overrides],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return (out / "package" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_model_of_a_known_family_is_one_file_in_a_folder_of_ones_own(workspace: Path) -> None:
    change(shown("Add a model"), workspace)
    assert [path.name for path in workspace.rglob("*") if path.is_file()] == ["electra-tiny.yaml"]
    readme = built(workspace, REPOSITORY, "model=electra-tiny")
    assert "An ONNX model for token-classification" in readme
    assert "**VERIFIED (quick).**" in readme


@pytest.mark.slow
def test_a_task_is_one_entry_in_the_table(workspace: Path) -> None:
    copy = workspace / "copy"
    for name in ("modelbuild", "conf"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(REPOSITORY / "dvc.yaml", copy / "dvc.yaml")
    change(shown("Add a task"), copy)
    readme = built(workspace, copy, "model=bert-tiny", "task=next-sentence-prediction")
    assert "An ONNX model for next-sentence-prediction" in readme
    assert "**VERIFIED (quick).**" in readme
    assert "model = ORTModelForCustomTasks.from_pretrained(" in readme
