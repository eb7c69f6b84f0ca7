"""A container has what a package needs to run, and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from modelbuild.deployment.deploy import deploy
from modelbuild.deployment.options import Options
from modelbuild.errors import ConfigError, PackageError
from modelbuild.manifest import read_manifest, write_manifest

_LARGE = ("torch", "transformers", "onnx", "optimum", "hydra", "dvc", "pydantic", "rich")


@pytest.fixture
def recipe(package: Path, tmp_path: Path) -> Path:
    """The folder that a container is built in."""
    tools = {"numpy": np.__version__, "onnxruntime": ort.__version__}
    write_manifest(replace(read_manifest(package), tools=tools), package)
    deploy("container", package, tmp_path / "recipe", Options())
    return tmp_path / "recipe"


def test_the_recipe_is_linted(recipe: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([hadolint, recipe / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_nothing_in_it_is_of_the_build_system(recipe: Path) -> None:
    files = [str(path.relative_to(recipe)) for path in recipe.rglob("*") if path.is_file()]
    assert {"Dockerfile", "requirements.txt", "package/manifest.json", "modelbuild/runtime/load.py"} <= set(files)
    rooms = {Path(file).parts[1] for file in files if file.startswith("modelbuild/")}
    assert not [file for file in files if "torch" in file]
    assert not rooms & {"stages", "pipeline", "exporters", "candidates", "config", "render"}
    required = (recipe / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in required] == ["numpy", "onnxruntime"]
    assert all("==" in line for line in required)
    text = (recipe / "Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in text
    assert text.index("USER 10001") < text.index("ENTRYPOINT")


def test_whoever_runs_it_may_read_it(package: Path, recipe: Path, tmp_path: Path) -> None:
    shutil.rmtree(recipe)
    mask = os.umask(0o077)
    try:
        deploy("container", package, tmp_path / "recipe", Options())
    finally:
        os.umask(mask)
    found = {path.stat().st_mode & 0o777 for path in (tmp_path / "recipe").rglob("*") if path.is_file()}
    assert found == {0o644}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "recipe").rglob("*") if path.is_dir()} == {0o755}


def test_a_package_that_was_built_beside_the_gpu_wheel_gets_that_of_the_cpu(package: Path, tmp_path: Path) -> None:
    tools = {"numpy": "2.4.6", "onnxruntime-gpu": "1.31.1"}
    write_manifest(replace(read_manifest(package), tools=tools), package)
    deploy("container", package, tmp_path / "recipe", Options())
    assert (tmp_path / "recipe" / "requirements.txt").read_text() == "numpy==2.4.6\nonnxruntime==1.31.1\n"
    write_manifest(replace(read_manifest(package), tools={"numpy": "2.4.6"}), package)
    with pytest.raises(PackageError, match="does not say which onnxruntime it was proven with"):
        deploy("container", package, tmp_path / "other", Options())
    with pytest.raises(ConfigError, match="puts no rows together: --max-batch-size"):
        deploy("container", package, tmp_path / "other", Options(max_batch_size=2))


@pytest.mark.slow
def test_what_is_in_it_runs_by_itself(recipe: Path, tmp_path: Path) -> None:
    """As in the container: from this folder alone, without whatever else is installed here."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({_LARGE!r})); sys.argv = sys.argv[1:]; import runpy; "
    code = blocked + "runpy.run_module('modelbuild.runtime', run_name='__main__', alter_sys=True)"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", code, "modelbuild.runtime", "package", *words]
        return subprocess.run(
            line, cwd=recipe, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
        )

    checked = run()
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["healthy"] is True
    np.savez(tmp_path / "in.npz", input_ids=np.array([[1, 2]]), attention_mask=np.array([[1, 1]]))
    ran = run("--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz"))
    assert (ran.returncode, ran.stderr) == (0, "")
    with np.load(tmp_path / "out.npz") as found:
        assert found["states"].shape == (1, 2, 4)
    (recipe / "package" / "config.json").write_text("{ }")
    damaged = run()
    assert damaged.returncode == 6
    assert damaged.stderr.startswith("error[PKG]: the package is not what was built: config.json has 3 bytes")


def test_a_package_for_a_gpu_is_refused(package: Path, tmp_path: Path) -> None:
    write_manifest(replace(read_manifest(package), providers=(("cuda", {}),)), package)
    with pytest.raises(PackageError, match=r"made for the CPU, and this package for cuda.*--for triton"):
        deploy("container", package, tmp_path / "recipe", Options())
    assert not (tmp_path / "recipe").exists()
