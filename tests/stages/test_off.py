"""A stage that the build has off leaves a report, imports nothing large, and depends on none of its code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelbuild.config.compose import compose
from modelbuild.measure import tables
from modelbuild.pipeline.driver import resolve_here
from modelbuild.pipeline.fingerprint import stage_code, stage_tools
from modelbuild.pipeline.project import Workspace
from modelbuild.stage_slices import stage_specs
from modelbuild.stages import OFF, STAGES, off
from modelbuild.stages.which import is_off, module_of
from modelbuild.strict import Strict

NAMES = ("sidecar", "validate", "benchmark")
CHOICES = ("sidecar=off", "validation=off", "benchmark=off")


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, Strict]:
    """The specs of a build that has off what can be."""
    workspace = Workspace(tmp_path)
    workspace.prepare()
    return stage_specs(resolve_here(compose(["model=bert-tiny", *CHOICES], tmp_path).spec, workspace), {})


def test_what_is_off_says_so(specs: dict[str, Strict], tmp_path: Path) -> None:
    for name in NAMES:
        out = tmp_path / name
        out.mkdir()
        report = off.run(specs[name], {}, out)  # type: ignore[arg-type]
        assert (report.stage, report.facts["status"], report.checks, report.passed) == (name, "off", (), True)
    assert list((tmp_path / "sidecar").iterdir()) == list((tmp_path / "validate").iterdir()) == []
    (table,) = (tmp_path / "benchmark" / tables.FOLDER).iterdir()
    assert (table.name, table.read_text()) == ("off.csv", "side,p50_ms,p90_ms,p99_ms\n")


def test_stages_that_are_on_run_themselves(specs: dict[str, Strict]) -> None:
    found = {name: module_of(name, spec) for name, spec in specs.items()}
    assert found == STAGES | dict.fromkeys(NAMES, OFF)
    assert [name for name, spec in specs.items() if is_off(spec)] == list(NAMES)


def test_what_is_off_depends_on_no_library_and_not_on_the_stage(specs: dict[str, Strict]) -> None:
    for name in NAMES:
        assert not {"torch", "transformers", "onnxruntime"} & set(stage_tools(name, specs[name]))
        code = stage_code(name, specs[name])
        assert "stages/off.py" in code
        assert f"stages/{name}.py" not in code


def test_what_is_off_imports_nothing_large() -> None:
    program = "import sys, modelbuild.stages.off; print(*{'torch', 'transformers', 'onnx'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed == "\n"
