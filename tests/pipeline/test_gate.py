"""A wrong model does not get through."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from processes import TINY, builds, dvc, run

pytestmark = pytest.mark.slow


def _change_one_weight(folder: Path) -> None:
    """Add 0.05 to one element of one matrix of the optimized model."""
    path = folder / "optimize" / "model.onnx"
    model = onnx.load(path)
    tensor = next(item for item in model.graph.initializer if list(item.dims) == [32, 64])
    values = numpy_helper.to_array(tensor).copy()
    values[1, 1] += 0.05
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (folder / "optimize" / "model.onnx.data").unlink(missing_ok=True)
    onnx.save(model, path)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_weight_changed_after_optimization_ends_with_5_and_leaves_the_package_alone(built: Path) -> None:
    folder = builds(built)[0]
    before = _content(folder / "package")
    _change_one_weight(folder)
    assert dvc("commit", "--force", "optimize", cwd=folder).returncode == 0
    finished = run(*TINY, cwd=built)
    assert finished.returncode == 5, finished.stderr
    failure, place, cause = [line for line in finished.stderr.splitlines() if line.startswith("error[VAL]")]
    assert failure.startswith("error[VAL]: validation failed: weights: 1 (limit 0) at ")
    assert str(folder / "validate" / "validation.json") in failure
    assert "first departs in encoder.layer.0.intermediate.dense" in place
    assert "the file was changed since" in cause
    assert "parity.last_hidden_state" in finished.stdout
    report = json.loads((folder / "validate" / "validation.json").read_text(encoding="utf-8"))
    check = report["checks"]["parity.last_hidden_state"]
    assert not report["passed"]
    assert check["worst"] > check["limit"]
    assert _content(folder / "package") == before
    again = run(*TINY, cwd=built)
    assert again.returncode == 5
    assert _content(folder / "package") == before


def test_a_build_that_fails_validation_never_has_a_package(built: Path) -> None:
    finished = run(*TINY, "session=edge", "validation.rtol=0", "validation.atol=0", cwd=built)
    assert finished.returncode == 5, finished.stderr
    assert [(folder / "package").exists() for folder in builds(built)].count(False) == 1


def test_unvalidated_packages_say_so(built: Path) -> None:
    finished = run(*[word for word in TINY if not word.startswith("validation")], "validation=off", cwd=built)
    assert finished.returncode == 0, finished.stderr
    assert "UNVERIFIED" in finished.stdout
    package = Path(finished.stdout.splitlines()[-1])
    assert json.loads((package / "manifest.json").read_text(encoding="utf-8"))["verified"] is False
    assert "unverified" in (package / "README.md").read_text(encoding="utf-8").lower()
    assert "unverified" in (package / "report.html").read_text(encoding="utf-8").lower()
