"""`python -m modelbuild registry` says what it did, in lines and in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuild.cli import main
from modelbuild.registry.store import ENVIRONMENT

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry").mkdir()
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "registry"))


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What the command prints, on the stream that its exit code is for."""
    assert main(["registry", *words]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_a_model_goes_through_its_life(package: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "list") == "nothing was published\n"
    assert said(capsys, "add", str(package("a")), "minilm", "--stage", "production").startswith("minilm 1.0.0  ")
    assert said(capsys, "add", str(package("b")), "minilm@2.0.0").startswith("minilm 2.0.0  ")
    assert said(capsys, "list") == "minilm  2.0.0, 1.0.0  (production: 1.0.0)\n"
    assert said(capsys, "assign", "minilm@2.0.0", "production") == "minilm 2.0.0 is in production\n"
    folder = said(capsys, "resolve", "minilm#production").strip()
    assert (Path(folder) / "model.onnx").read_text() == "b"
    assert said(capsys, "add", "registry:minilm@1.0.0", "copy@0.1.0").startswith("copy 0.1.0  ")
    assert said(capsys, "remove", "copy@0.1.0") == "copy 0.1.0 was removed\n"
    assert "modelbuild registry unassign minilm#production" in said(capsys, "remove", "minilm@2.0.0", code=6)
    assert said(capsys, "assign", "minilm@1.0.0", "staging") == "minilm 1.0.0 is in staging\n"
    assert said(capsys, "unassign", "minilm#staging") == "minilm 1.0.0 is no longer in staging\n"
    assert said(capsys, "remove", "minilm@1.0.0") == "minilm 1.0.0 was removed\n"
    assert json.loads(said(capsys, "list", "--json")) == {
        "minilm": {"versions": ["2.0.0"], "stages": {"production": "2.0.0"}}
    }
    shown = said(capsys, "show", "minilm")
    for line in (
        "model    minilm 2.0.0",
        "task     feature-extraction",
        "export   exporter dynamo",
        "needs    onnxruntime 1.14",
    ):
        assert line in shown
    assert json.loads(said(capsys, "show", "minilm@^2", "--json"))["version"] == "2.0.0"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["add", "nowhere", "minilm"], 6, "no such folder: nowhere"),
        (["add", "{package}/model.onnx", "minilm"], 6, "a file, where a folder is wanted"),
        (["add", "registry:other", "minilm"], 6, "there is no model 'other'"),
        (["list", "minilm"], 6, "there is no model 'minilm'"),
        (["list", "minilm@^1"], 6, "'minilm@^1' is no name"),
        (["list", "--registry", "{package}"], 7, "it is no registry: it has no registry.json"),
        (["list", "--registry", "{package}/model.onnx"], 7, "a file, where the folder of a registry is wanted"),
        (["list", "--registry", "nowhere"], 7, "no such folder: nowhere: a registry begins when something is added"),
        (["show", "minilm", "--registry", "nowhere"], 7, "no such folder: nowhere: a registry begins when"),
        (
            ["resolve", "minilm#production", "--registry", "nowhere"],
            7,
            "no such folder: nowhere: a registry begins when",
        ),
        (["add", "{package}", "minilm", "--registry", "{package}"], 7, "it is no registry"),
        (["add", "{package}", "minilm", "--stage", "1.0.0"], 6, "'1.0.0' is no stage"),
        (["add", "{package}", "minilm", "--stage", "latest"], 6, "'latest' is no stage"),
        (["unassign", "minilm"], 2, "'minilm' names no stage: write minilm#production"),
        (["unassign", "minilm#production"], 6, "no version of minilm is in production"),
        (["add", "{package}", "Mini LM"], 6, "'Mini LM' is no name"),
        (["add", "{package}", "minilm@^1"], 6, "'^1' is no semantic version"),
        (["add", "{package}", "minilm@1.0.0", "--stage", "Production"], 6, "'Production' is no stage"),
        (["add", "{package}", "minilm#production"], 2, "'minilm#production' names no version"),
        (["add", "{package}"], 2, "the following arguments are required: NAME[@VERSION]"),
        (["show", "minilm"], 6, "there is no model 'minilm'"),
        (["resolve", "minilm@"], 6, "names no version"),
        (["assign", "minilm", "production"], 2, "'minilm' names no version: write minilm@1.2.0"),
        (["remove", "minilm@1.0.0"], 6, "there is no model 'minilm'"),
        (["measure", "minilm"], 6, "there is no model 'minilm'"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, error: str, package: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(package("a"))
    line = said(capsys, *(word.replace("{package}", folder) for word in words), code=code)
    assert error in line
    assert line.count("\n") == 1
    assert said(capsys, "list") == "nothing was published\n"
