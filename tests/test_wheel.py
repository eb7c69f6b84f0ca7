"""modelbuild installed from its wheel, in an empty folder, with a configuration of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import builds

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[1]

MINE = """
name: mine
source:
  kind: init
  architecture: DistilBertModel
  config: {vocab_size: 100, dim: 32, n_layers: 1, n_heads: 2, hidden_dim: 64, max_position_embeddings: 32}
"""


def test_a_wheel_builds_the_users_own_model_in_an_empty_folder(tmp_path: Path) -> None:
    python = [sys.executable, "-m"]
    wheels, installed, folder = tmp_path / "wheels", tmp_path / "installed", tmp_path / "workspace"
    command = [*python, "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)
    wheel = next(wheels.glob("*.whl"))
    command = [*python, "pip", "install", "--no-deps", "--target", str(installed), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "mine.yaml").write_text(MINE, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(installed)}

    where = subprocess.run(
        [sys.executable, "-c", "import modelbuild; print(modelbuild.__file__)"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed))
    finished = subprocess.run(
        [*python, "modelbuild", "model=mine", "validation=quick", "benchmark=off"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert [path.name.split("-")[0] for path in builds(folder)] == ["mine"]
    assert sorted(path.name for path in folder.iterdir()) == [".dvc", "artifacts", "conf"]
