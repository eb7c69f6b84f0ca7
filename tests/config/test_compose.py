from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelbuild.config.compose import compose, compose_sweep
from modelbuild.config.location import groups, packaged
from modelbuild.errors import ConfigError
from modelbuild.exporter_spec import FileExporter
from modelbuild.model_spec import InitSource, PathSource
from modelbuild.spec import BuildSpec

REVISION = "0123456789abcdef0123456789abcdef01234567"
# Values for the keys that a file leaves to the user (`???`).
MANDATORY: dict[tuple[str, str], dict[str, str]] = {
    ("model", "path"): {"model.source.path": "/models/bert"},
    ("model", "hub"): {"model.source.repository": "org/bert", "model.source.revision": REVISION},
    ("model", "init"): {"model.source.architecture": "BertModel"},
    ("model", "module"): {
        "model.source.path": "/models/mine.py",
        "model.source.factory": "Net",
        "model.source.example_inputs": "example",
    },
    ("exporter", "file"): {"exporter.path": "/models/theirs.onnx"},
}
# What a choice cannot be without: only a file has an opset of its own, and only a GPU arithmetic in 16 bits.
OWN = ["exporter=file", "exporter.path=theirs.onnx"]
WITH: dict[tuple[str, str], list[str]] = {
    ("opset", "auto"): OWN,
    ("precision", "fp16"): ["providers=cuda"],
    ("precision", "bf16"): ["providers=cuda"],
}
CHOICES = [(group, choice) for group, choices in groups(packaged("conf")).items() for choice in choices]
DECLARED: dict[str, list[str]] = yaml.safe_load(packaged("params.yaml").read_text(encoding="utf-8"))["builds"]
MINE = "name: mine\nsource: {kind: init, architecture: BertModel}\n"


def write(workspace: Path, name: str, text: str | bytes) -> None:
    path = workspace / "conf" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def refused(*overrides: str, workspace: Path, sweep: bool = False) -> list[str]:
    """The lines of the error; and nothing was created by it."""
    before = sorted(workspace.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        compose_sweep(overrides, workspace) if sweep else compose(overrides, workspace)
    assert sorted(workspace.rglob("*")) == before
    assert caught.value.exit_code == 2
    assert not any("\n" in line for line in caught.value.lines())
    return caught.value.lines()


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix.rstrip("."): value}
    return {key: leaf for name, item in value.items() for key, leaf in leaves(item, f"{prefix}{name}.").items()}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_in_conf_composes_to_what_it_says(group: str, choice: str, workspace: Path) -> None:
    given = MANDATORY.get((group, choice), {})
    words = WITH.get((group, choice), [])
    spec = compose([*words, f"{group}={choice}", *(f"{key}={value}" for key, value in given.items())], workspace).spec
    assert not any(workspace.iterdir())
    if group == "build":
        return
    file = yaml.safe_load(packaged(f"conf/{group}/{choice}.yaml").read_text(encoding="utf-8"))
    said = leaves(file[group] if "defaults" in file else file, f"{group}.")
    read = leaves(spec.model_dump(mode="json"))
    assert {key: read[key] for key in said} == said | given


def test_the_file_of_a_choice_lacks_no_value_but_those_that_are_the_users() -> None:
    lacking = {
        (group, choice)
        for group, choice in CHOICES
        if "???" in packaged(f"conf/{group}/{choice}.yaml").read_text(encoding="utf-8")
    }
    assert lacking == set(MANDATORY)


@pytest.mark.parametrize("name", DECLARED)
def test_every_declared_build_composes(name: str, workspace: Path) -> None:
    assert isinstance(compose(DECLARED[name], workspace).spec, BuildSpec)


def test_nothing_said_is_the_default_build(workspace: Path) -> None:
    spec = compose([], workspace).spec
    assert (spec.model.name, spec.task.name, spec.opset.version) == ("minilm", "auto", 20)
    assert (spec.providers.order, spec.validation.kind) == (("cpu",), "strict")


def test_a_bare_opset_works_on_the_command_line(workspace: Path) -> None:
    assert compose(["opset=17"], workspace).spec.opset.version == 17


@pytest.mark.parametrize("given", ["opset=17,18", "opset='17','18'", "opset=choice(17,18)", "opset=range(17,19)"])
def test_a_bare_opset_works_in_a_sweep(given: str, workspace: Path) -> None:
    requests = compose_sweep([given, "session.intra_op_num_threads=3"], workspace)
    assert [request.spec.opset.version for request in requests] == [17, 18]
    assert {request.spec.session.intra_op_num_threads for request in requests} == {3}


def test_opset_works_in_the_defaults_of_a_preset_and_says_so_when_its_quotes_are_forgotten(workspace: Path) -> None:
    preset = "# @package _global_\ndefaults:\n  - override /opset: {}\n"
    write(workspace, "build/quoted.yaml", preset.format('"17"'))
    write(workspace, "build/bare.yaml", preset.format("17"))
    assert compose(["build=quoted"], workspace).spec.opset.version == 17
    (line,) = refused("build=bare", workspace=workspace)
    assert 'quote numbers in a defaults list: override /opset: "17"' in line


def test_a_key_that_the_file_lacks_can_be_set(workspace: Path) -> None:
    overrides = ["model=bert-tiny", "model.source.config.hidden_act=relu", "providers.cuda.device_id=1"]
    spec = compose(overrides, workspace).spec
    assert isinstance(spec.model.source, InitSource)
    assert spec.model.source.config["hidden_act"] == "relu"
    assert spec.providers.cuda.device_id == 1


@pytest.mark.parametrize(
    ("overrides", "opset", "optimization"),
    [
        (OWN, "auto", "none"),
        ([*OWN, "opset=18"], 18, "none"),
        (["opset=18", *OWN], 18, "none"),
        ([*OWN, "optimization=extended"], "auto", "extended"),
        (["optimization=extended", "opset=18", *OWN], 18, "extended"),
        ([*OWN, "build=bert-tiny"], "auto", "none"),
        (["build=own"], "auto", "none"),
        (["build=own", "opset=20"], 20, "none"),
        (["build=own", "exporter=dynamo", "~exporter.path"], 20, "transformer"),
        (["build=own18"], 18, "basic"),
    ],
    ids=str,
)
def test_a_file_is_taken_as_it_is_unless_something_else_is_said(
    overrides: list[str], opset: int | str, optimization: str, workspace: Path
) -> None:
    preset = "# @package _global_\ndefaults:\n  - override /exporter: file\n{}exporter:\n  path: theirs.onnx\n"
    write(workspace, "build/own.yaml", preset.format(""))
    more = '  - override /opset: "18"\n  - override /optimization: basic\n'
    write(workspace, "build/own18.yaml", preset.format(more))
    spec = compose(overrides, workspace).spec
    assert (spec.opset.version, spec.optimization.kind) == (opset, optimization)


def test_a_sweep_over_exporters_takes_the_file_as_it_is_and_the_others_as_asked(workspace: Path) -> None:
    requests = compose_sweep(["exporter=file", "exporter.path=a.onnx,b.onnx"], workspace)
    assert [request.spec.opset.version for request in requests] == ["auto", "auto"]
    requests = compose_sweep([*OWN, "opset=17,auto", "optimization=none,basic"], workspace)
    found = [(request.spec.opset.version, request.spec.optimization.kind) for request in requests]
    assert found == [(17, "none"), (17, "basic"), ("auto", "none"), ("auto", "basic")]


def test_names_of_a_graph_are_a_mapping_that_the_command_line_can_fill(workspace: Path) -> None:
    spec = compose([*OWN, "exporter.inputs.input_ids=ids", "exporter.outputs={logits: out}"], workspace).spec
    assert isinstance(spec.exporter, FileExporter)
    assert (spec.exporter.inputs, spec.exporter.outputs) == ({"input_ids": "ids"}, {"logits": "out"})
    assert spec.exporter.path == str(workspace / "theirs.onnx")


def test_out_and_a_relative_path_are_taken_from_the_workspace(workspace: Path) -> None:
    request = compose(["out=../here", "model=path", "model.source.path=models/m"], workspace)
    assert request.out == (workspace.parent / "here").resolve()
    assert isinstance(request.spec.model.source, PathSource)
    assert request.spec.model.source.path == str((workspace / "models/m").resolve())
    assert compose([], workspace).out is None


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model=bert", "model.source.revision=12e4567"],
            "valid string, got Infinity: model.source.revision: quote it",
        ),
        (["session.intra_op_num_threads=two"], 'valid integer, got "two": session.intra_op_num_threads'),
        (["session.allow_spinning=1"], "valid boolean, got 1: session.allow_spinning"),
        (["optimization.kind=extendd"], "'extendd' is not possible: optimization.kind: did you mean 'extended'?"),
        (["validation.atol=nan"], "less than or equal to 1, got NaN: validation.atol"),
        (["exporter=optimum", "opset=21"], "opset=21 with exporter=optimum: at most 20"),
        (["opset=auto"], "opset=auto with exporter=dynamo: choose a number, or exporter=file, whose opset it is"),
        (["exporter=file"], "required, and not given: exporter.path: set exporter.path=…"),
        (["exporter.path=a.onnx"], "unknown key: exporter.path: it belongs to exporter=file"),
        (["providers=cuda", "session=throughput"], "session.execution_mode=parallel with providers=cuda"),
        (["model=path"], "required, and not given: model.source.path: set model.source.path=…"),
        (["~model"], "required, and not given: model: set model=…"),
        (["model.name=${model.nmae}"], "Interpolation key 'model.nmae' not found: model.name"),
        (["model.name=${oc.env:NOPE_NOT_SET}"], "Environment variable 'NOPE_NOT_SET' not found"),
        (["out=3"], "a folder is wanted, got 3: out"),
        (["hydra.nope=1"], "Could not override 'hydra.nope'."),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_with_its_key(overrides: list[str], line: str, workspace: Path) -> None:
    assert [line in item for item in refused(*overrides, workspace=workspace)] == [True]


def test_problems_of_groups_and_of_keys_are_shown_together(workspace: Path) -> None:
    assert len(refused("model=brt", "+opest=17", "session.spin=1", "opset=abc", workspace=workspace)) == 4
    assert len(refused("session.allow_spinning=1", "benchmark.runs=0", "model.name=3", workspace=workspace)) == 3
    assert len(refused("model=hub", workspace=workspace)) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: mine\n\tsource: 1\n", "mine.yaml"),
        ("name: a\nname: b\n", "duplicate key name"),
        ("name: !!python/object/apply:os.mkdir [made]\n", "could not determine a constructor"),
        (b"\xff\xfe", "invalid start byte"),
        ("- a\n", "input should be an object"),
        ("nmae: mine\nsource: {kind: init, architecture: B}\n", "unknown key: model.nmae: did you mean 'name'?"),
        ("defaults: [minlm]\nname: mine\n", "Could not load 'model/minlm'"),
        (f"{MINE}_target_: os.mkdir\n", "unknown key: model._target_"),
    ],
    ids=["tab", "twice", "python", "not utf-8", "list", "typo", "defaults", "target"],
)
def test_a_file_that_cannot_be_used_is_a_line_and_never_runs_code(
    text: str | bytes, words: str, workspace: Path
) -> None:
    write(workspace, "model/mine.yaml", text)
    assert any(words in line for line in refused("model=mine", workspace=workspace))


def test_a_file_of_the_workspace_is_found_and_one_of_the_same_name_wins(workspace: Path) -> None:
    write(workspace, "model/mine.yaml", MINE)
    write(workspace, "model/bert.yaml", MINE.replace("mine", "ours"))
    requests = compose_sweep(["model=mine,bert,bert-tiny"], workspace)
    assert [request.spec.model.name for request in requests] == ["mine", "ours", "bert-tiny"]


def test_a_sweep_with_bad_jobs_tells_all_of_them_and_gives_none(workspace: Path) -> None:
    found = refused("model=path,bert-tiny", "exporter=optimum", "opset=20,21", workspace=workspace, sweep=True)
    assert [line.partition("job ")[2][:13] for line in found] == ["0 (model=path", "1 (model=path", "3 (model=bert"]
    assert "required, and not given: model.source.path in job 0" in found[0]
    assert "opset=21 with exporter=optimum: at most 20" in found[2]


def test_the_problem_of_a_sweep_of_one_names_no_job(workspace: Path) -> None:
    (line,) = refused("model=path", workspace=workspace, sweep=True)
    assert line == "error[CFG]: required, and not given: model.source.path: set model.source.path=…"


def test_a_sweep_gives_its_builds_in_order_and_leaves_out_what_is_hydras(workspace: Path) -> None:
    requests = compose_sweep(["opset=20,17", "session=edge,latency", "hydra/launcher=x"], workspace)
    found = [(request.spec.opset.version, request.spec.session.intra_op_num_threads) for request in requests]
    assert found == [(20, 1), (20, 0), (17, 1), (17, 0)]
