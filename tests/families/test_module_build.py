"""A module of one's own through all stages."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from user_modules import HEAD, spec_of, write_module

from modelbuild.digest import sha256_file, write_json
from modelbuild.pipeline import STAGE_INPUTS
from modelbuild.report import Report, write_report
from modelbuild.resolve import ResolvedBuild, resolve
from modelbuild.runtime import load
from modelbuild.stage_slices import stage_specs
from modelbuild.stages import REPORTS, STAGES
from modelbuild.stages.which import module_of

# Numbers of three kinds, rows that know of each other, and an axis that is as long as the inputs make it.
ODD = """
    def forward(self, rows, keep):
        scores = self.linear(rows - rows.mean(0))
        return {"best": scores.argmax(-1), "high": scores > 0, "kept": (scores * keep, scores[1:])}
"""
INPUTS = {
    "rows": {"dtype": "float32", "shape": ["rows", 4], "between": [-1, 2]},
    "keep": {"dtype": "bool", "shape": ["rows", 1]},
}
NAMES = ["best", "high", "kept.0", "kept.1"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResolvedBuild, Path]:
    folder = tmp_path_factory.mktemp("odd")
    write_module(folder, HEAD + ODD)
    values = {"path": "mine.py", "factory": "Net", "inputs": INPUTS, "axes": {"rows": {"min": 2}}}
    resolved = resolve(spec_of(values | {"config": {"hidden_size": 4, "model_type": "net"}}, folder), sha256_file)
    for name in STAGES:
        run(resolved, name, folder)
    return resolved, folder


def run(resolved: ResolvedBuild, name: str, folder: Path, **others: Path) -> Report:
    """One stage in a folder of its own, beside those of the stages before it."""
    spec = stage_specs(resolved, {})[name]
    stage = importlib.import_module(module_of(name, spec))
    inputs = {stage_name: folder / stage_name for stage_name in STAGE_INPUTS[name]} | resolved.locations() | others
    out = folder / name
    out.mkdir(exist_ok=True)
    report: Report = stage.run(spec, inputs, out)
    if name in REPORTS:
        write_report(report, out / REPORTS[name])
    return report


@pytest.mark.slow
def test_a_module_with_outputs_of_every_kind_is_validated_and_served(build: tuple[ResolvedBuild, Path]) -> None:
    _, folder = build
    package = load(folder / "package")
    rows = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)
    found = package.run({"rows": rows, "keep": np.ones((5, 1), dtype=bool)})
    assert list(found) == NAMES
    assert [found[name].dtype.name for name in NAMES] == ["int64", "bool", "float32", "float32"]
    assert [found[name].shape for name in NAMES] == [(5,), (5, 4), (5, 4), (4, 4)]


@pytest.mark.slow
def test_its_manifest_says_what_it_is_and_nothing_of_this_machine(build: tuple[ResolvedBuild, Path]) -> None:
    _, folder = build
    text = (folder / "package" / "manifest.json").read_text(encoding="utf-8")
    source = json.loads(text)["source"]
    assert (source["kind"], source["main"], source["factory"]) == ("module", "mine.py", "Net")
    assert source["files"] == {"mine.py": sha256_file(folder / "mine.py")}
    assert str(folder) not in text
    config = json.loads((folder / "package" / "config.json").read_text(encoding="utf-8"))
    ours = config.pop("modelbuild")
    assert config == {"architectures": ["Net"], "hidden_size": 4, "model_type": "net"}
    assert ours.pop("inferred") == ["architectures"]
    assert ours, "what the graph is made of is said beside it"


# A step with a state, in which rows come second.
STEP = """
    def forward(self, x, h0):
        state = torch.tanh(self.linear(x).sum(1) + h0[0])
        return x + state[:, None], state[None]
"""
SERIES: dict[str, list[int | str]] = {"x": ["batch", "sequence", 4], "h0": [1, "batch", 4]}


@pytest.mark.slow
def test_each_row_of_a_state_is_compared_beside_others_and_alone(tmp_path: Path) -> None:
    write_module(tmp_path, HEAD + STEP)
    inputs = {name: {"dtype": "float32", "shape": shape} for name, shape in SERIES.items()}
    values = {"path": "mine.py", "factory": "Net", "inputs": inputs, "axes": {"batch": {"max": 4}}}
    resolved = resolve(spec_of(values, tmp_path), sha256_file)
    for name in STAGES:
        report = run(resolved, name, tmp_path)
        assert all(check.passed for check in report.checks)
        if name == "validate":
            assert "batch invariance" in {check.name for check in report.checks}
    series = {"x": np.ones((4, 9, 4), dtype=np.float32), "h0": np.zeros((1, 4, 4), dtype=np.float32)}
    found = load(tmp_path / "package").run(series)
    assert [array.shape for array in found.values()] == [(4, 9, 4), (1, 4, 4)]


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("config architecture", {"architectures": []}, "config.json architectures: [], no list of class names"),
    ("config architecture", {"model_type": ""}, 'config.json model_type: "", no text'),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change", "said"), FAULTS)
def test_a_config_without_what_a_reader_needs_fails_by_name(
    name: str, change: dict[str, Any], said: str, build: tuple[ResolvedBuild, Path], tmp_path: Path
) -> None:
    resolved, folder = build
    write_report(Report(stage="sidecar", facts={"status": "auto"}), tmp_path / "report.json")
    config = json.loads((folder / "sidecar" / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "config.json", config | change)
    report = run(resolved, "validate", folder, sidecar=tmp_path)
    assert {check.name: check.where for check in report.checks if not check.passed} == {name: said}
