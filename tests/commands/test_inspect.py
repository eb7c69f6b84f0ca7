"""inspect: what a package is and the tree of its modules, for people and for programs, with little installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families.building import FAST, build

from modelbuild.cli import main
from modelbuild.hierarchy import Coverage, Hierarchy, Module
from modelbuild.manifest import FILE_NAME, FileRecord, GraphRecord, Manifest, sealed, write_manifest
from modelbuild.signature import Signature, TensorSpec

HIERARCHY = Hierarchy(
    strategy="dynamo",
    exported=Coverage(nodes=9, tagged_nodes=9, tags={"exporter": 9}),
    modules={
        "": Module(class_name="TinyModel", nodes=1, shipped_nodes=1),
        "encoder": Module(class_name="Encoder", nodes=2),
        "encoder.layer.0": Module(class_name="Layer", nodes=6, shipped_nodes=2, parameters=30),
        "head": Module(class_name="Linear", shipped_nodes=1, parameters=10),
    },
    shipped=Coverage(nodes=5, tagged_nodes=4, tags={"value": 4}),
)
HEAVY = ("dvc", "hydra", "jinja2", "omegaconf", "onnx", "onnxruntime", "optimum", "pydantic", "torch", "transformers")

# Runs in a process of its own, where the modules named by the first argument cannot be imported.
SCRIPT = """
import sys

blocked = sys.argv[1].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from modelbuild.cli import main

raise SystemExit(main(sys.argv[2:]))
"""


def graph(hierarchy: dict[str, Any], name: str = "model") -> GraphRecord:
    return GraphRecord(
        file=f"{name}.onnx",
        signature=Signature(
            inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
            outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
        ),
        limits={"sequence": 8},
        may_be_empty=(),
        sums={},
        opsets={"": 18},
        ir_version=8,
        oldest_onnxruntime="1.14",
        hierarchy=hierarchy,
    )


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "tiny",
        "task": "text-classification",
        "verified": True,
        "graphs": {"model": graph(HIERARCHY.facts())},
        "providers": (("cpu", {}),),
        "allow_fallback": False,
        "session": {},
        "source": {"kind": "hub", "repository": "org/tiny", "revision": "0" * 40, "files": {"config.json": "0" * 64}},
        "build": {},
        "tools": {},
        "validation": {"status": "strict"},
        "benchmark": {},
        "files": {"model.onnx": FileRecord(size_bytes=1, sha256="0" * 64)},
    }
    return Manifest(**values | changes)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_manifest(manifest(), tmp_path)
    return tmp_path


def test_it_prints_what_the_package_is_and_its_tree(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(package)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "tiny  text-classification  verified (strict)",
        f"source: kind hub, repository org/tiny, revision {'0' * 40}",
        "providers: cpu",
        "",
        "model",
        "  model.onnx: opset ai.onnx 18, ONNX Runtime 1.14 or newer",
        "  takes input_ids: int64 (batch, sequence ≤ 8)",
        "  gives logits: float32 (batch, 2)",
        "  9 of 9 exported nodes, 4 of 5 of those that ship say which module they come from (dynamo)",
        "TinyModel  4 nodes, 1 of its own, 100.0 % of parameters",
        "├── encoder  Encoder  2 nodes, 0 of its own, 75.0 % of parameters",
        "│   └── layer.0  Layer  2 nodes, 75.0 % of parameters",
        "└── head  Linear  1 node, 25.0 % of parameters",
    ]


@pytest.mark.parametrize(("depth", "shown"), [("0", 1), ("1", 3), ("2", 4), ("99", 4)])
def test_depth_is_how_many_levels_below_the_model_are_shown(
    depth: str, shown: int, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(package), "--depth", depth]) == 0
    assert capsys.readouterr().out.count("% of parameters") == shown
    assert main(["inspect", "--json", str(package), f"--depth={depth}"]) == 0
    assert len(json.loads(capsys.readouterr().out)["graphs"]["model"]["modules"]) == shown


def test_programs_get_json(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(package), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["task"], told["verified"]) == ("tiny", "text-classification", True)
    graph = told["graphs"]["model"]
    assert graph["inputs"] == [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}]
    assert graph["coverage"]["shipped"] == {"nodes": 5, "tagged_nodes": 4, "share": 0.8, "astray_nodes": 0}
    assert (told["providers"], told["custom_ops"]) == ([{"name": "cpu", "options": {}}], [])
    assert (graph["file"], graph["opsets"], graph["oldest_onnxruntime"]) == ("model.onnx", {"": 18}, "1.14")
    assert graph["limits"] == {"sequence": 8}
    assert graph["modules"]["encoder"] == {
        "class": "Encoder", "nodes": 0, "nodes_with_children": 2, "parameters": 0, "parameters_with_children": 30,
    }  # fmt: skip


def test_libraries_are_called_native_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(manifest(session={"custom_ops": ["custom_ops/libmine.so"]}), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    assert "native code: custom_ops/libmine.so" in capsys.readouterr().out.splitlines()
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["custom_ops"] == ["custom_ops/libmine.so"]


def test_nodes_that_name_a_module_which_the_model_does_not_have_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Coverage(nodes=5, tagged_nodes=4, tags={"value": 6})
    write_manifest(manifest(graphs={"model": graph(replace(HIERARCHY, shipped=shipped).facts())}), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    assert "(dynamo); 2 name a module that the model does not have" in capsys.readouterr().out


@pytest.mark.slow
def test_a_package_that_was_built_is_shown_as_it_was_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = build(tmp_path, "build=bert-tiny-text-classification", *FAST)
    capsys.readouterr()
    assert main(["inspect", str(package), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["task"], told["verified"], list(told["graphs"])) == ("text-classification", True, ["model"])
    model = told["graphs"]["model"]
    assert model["file"] == "model.onnx"
    assert model["opsets"][""] in (17, 18, 20, 21)
    assert [tensor["name"] for tensor in model["inputs"]] == ["input_ids", "attention_mask", "token_type_ids"]
    assert model["modules"][""]["class"] == "BertForSequenceClassification"
    assert model["modules"][""]["nodes_with_children"] == model["coverage"]["shipped"]["tagged_nodes"] > 0
    assert main(["inspect", str(package)]) == 0
    assert "BertForSequenceClassification" in capsys.readouterr().out


def test_every_graph_of_a_package_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("encoder_model", "decoder_model")
    write_manifest(
        manifest(
            graphs={name: graph(HIERARCHY.facts(), name) for name in names},
            files={f"{name}.onnx": FileRecord(size_bytes=1, sha256="0" * 64) for name in names},
        ),
        tmp_path,
    )
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.split()
    assert [lines.count(word) for word in (*names, "TinyModel")] == [1, 1, 2]
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["graphs"]) == list(names)


def test_a_package_that_was_not_verified_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(manifest(verified=False, validation={"status": "off"}), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("tiny  text-classification  UNVERIFIED")


@pytest.mark.parametrize(
    ("hierarchy", "said"),
    [
        ({}, "none of its 0 nodes says which module it comes from"),
        ({"nodes": 7, "tagged_nodes": 0, "modules": {}}, "none of its 7 nodes says which module it comes from"),
        (
            {"nodes": 7, "tagged_nodes": 5, "modules": {"encoder.layer": 5}, "shipped_nodes": 3},
            "5 of 7 exported nodes say which module they come from (unknown)",
        ),
    ],
)
def test_packages_that_know_less_of_their_modules_are_shown(
    hierarchy: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(manifest(graphs={"model": graph(hierarchy)}), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert ("encoder.layer  ?  5 nodes" in out) is bool(hierarchy.get("modules"))


def test_markup_and_control_codes_in_names_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(manifest(name="[red]tiny\x1b]0;title\x07", source={"kind": "[/]"}), tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("[red]tiny")
    assert "\x07" not in out


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        data = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        change(data)
        (folder / FILE_NAME).write_text(sealed(data), encoding="utf-8")

    return harm


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / FILE_NAME).unlink(), "not a package: it has no manifest.json"),
        (lambda folder: (folder / FILE_NAME).write_text('{"format": 1'), "manifest.json cannot be read"),
        (lambda folder: (folder / FILE_NAME).write_text("[1, 2]"), "manifest.json is damaged"),
        (_edit(lambda data: data.pop("task")), "manifest.json is damaged"),
        (_edit(lambda data: data["graphs"]["model"].update(signature={"inputs": 3})), "manifest.json is damaged"),
        (
            _edit(lambda data: data["graphs"]["model"].update(hierarchy=[])),
            "manifest.json is damaged: TypeError('its hierarchy is []')",
        ),
        (
            _edit(lambda data: data["graphs"]["model"]["hierarchy"].update(modules={"encoder": "many"})),
            "manifest.json is damaged: the module hierarchy is damaged",
        ),
        (
            _edit(lambda data: data.update(session={"custom_ops": 1})),
            "manifest.json is damaged: the session's custom_ops",
        ),
        (
            _edit(lambda data: data["graphs"]["model"].update(limits=3)),
            "manifest.json is damaged: TypeError('its limits is 3')",
        ),
        (_edit(lambda data: data.update(format=99)), "the package has format 99"),
    ],
)
def test_what_is_no_package_or_a_damaged_one_is_exit_6(
    harm: Callable[[Path], object], message: str, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(package)
    assert main(["inspect", str(package)]) == 6
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error[PKG]: {message}")
    assert len(printed.err.splitlines()) == 1
    assert str(package) in printed.err


@pytest.mark.parametrize(
    ("name", "what"), [("nowhere", "no such folder"), (FILE_NAME, "a file, where a folder is wanted")]
)
def test_what_is_no_folder_is_exit_6(name: str, what: str, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(package / name)]) == 6
    assert capsys.readouterr().err == f"error[PKG]: {what}: {package / name}: give the folder of a package\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: PACKAGE"),
        ([".", "--depth", "two"], "argument --depth: invalid int value: 'two'"),
        ([".", "--depth", "-1"], "argument --depth: -1 is below 0"),
        ([".", "--dpeth", "1"], "unrecognized arguments: --dpeth 1"),
        ([".", "other"], "unrecognized arguments: other"),
    ],
)
def test_wrong_words_are_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *words]) == 2
    assert capsys.readouterr().err == f"error[CFG]: {message}: see python -m modelbuild inspect --help\n"


def blocked(package: Path, *names: str, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, ",".join(names), "inspect", str(package), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_needs_neither_torch_nor_onnx_and_json_not_even_rich(package: Path) -> None:
    shown = blocked(package, *HEAVY)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "└── head  Linear" in shown.stdout
    told = blocked(package, *HEAVY, "rich", words=("--json",))
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)["name"] == "tiny"


def test_where_rich_is_missing_it_says_how_to_install_it(package: Path) -> None:
    shown = blocked(package, "rich")
    assert shown.returncode == 7, shown.stderr
    assert shown.stderr.startswith("error[ENV]: 'rich' is not installed: ")
    assert "add --json, or pip install" in shown.stderr
