"""Export, validate, benchmark, package and register is one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import TINY, run

from modelbuild.registry import Registry
from modelbuild.runtime import load

pytestmark = pytest.mark.slow
REGISTER = ("register.name=bert-tiny", "register.stage=staging", "register.registry=models")


def test_a_build_is_published_once_and_loads_from_there(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = run(*TINY, *REGISTER, cwd=built)
    assert finished.returncode == 0, finished.stderr
    assert any(line.split() == ["registered", "bert-tiny", "1.0.0"] for line in finished.stdout.splitlines())
    again = run(*TINY, *REGISTER, cwd=built)
    assert again.returncode == 0, again.stderr
    registry = Registry(built / "models")
    assert list(map(str, registry.versions("bert-tiny"))) == ["1.0.0"]
    monkeypatch.setenv("MODELBUILD_REGISTRY", str(built / "models"))
    with load("registry:bert-tiny#staging") as model:
        assert model.health().passed
    measured = run("registry", "measure", "bert-tiny", "--registry", "models", "--json", cwd=built)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["golden"]["model"]["runs"] > 0
    entry = registry.entry("bert-tiny")
    assert entry.opsets == {"model": {"": 20}}
    assert entry.build["exporter"] == {"kind": "dynamo"}
    assert entry.parity["passed"] is True
    assert len(registry.performance(entry)) == 1


def test_a_build_that_fails_its_gate_publishes_nothing(built: Path) -> None:
    finished = run(*TINY, "validation.rtol=1e-30", "validation.atol=1e-30", *REGISTER, cwd=built)
    assert finished.returncode == 5
    assert Registry(built / "models").names() == []
