"""What is different between two packages is said, and what is the same is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelbuild.cli import main
from modelbuild.errors import PackageError
from modelbuild.graph_diff import changes
from modelbuild.manifest import read_manifest, write_manifest
from modelbuild.package_diff import diff
from modelbuild.package_files import record_files


@pytest.fixture
def other(package: Path, tmp_path: Path) -> Path:
    """A copy of the package."""
    return Path(shutil.copytree(package, tmp_path / "other"))


def change(package: Path, **values: Any) -> None:
    write_manifest(replace(read_manifest(package), **{"files": record_files(package)} | values), package)


def change_graph(package: Path, edit: Any) -> None:
    model = onnx.load(package / "model.onnx")
    edit(model.graph)
    onnx.save(model, package / "model.onnx")
    change(package)


def test_a_copy_is_the_same(package: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diff(package, other).same
    assert main(["diff", str(package), str(other)]) == 0
    assert capsys.readouterr().out == f"{package} and {other} are the same, file by file\n"


def test_an_operator_that_was_added_is_counted(package: Path, other: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("Identity", ["states"], ["again"]))
        graph.node.append(helper.make_node("Identity", ["states"], ["twice"]))

    change_graph(other, edit)
    found = diff(package, other)
    assert found.graphs["model"].operators == {"Identity": (0, 2)}
    assert list(found.files) == ["model.onnx", "manifest.json"]
    assert found.size_bytes[0] < found.size_bytes[1]


def test_a_weight_that_changed_is_named_with_how_far(package: Path, other: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        values = numpy_helper.to_array(graph.initializer[0]).copy()
        values[3, 2] += 0.25
        graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "embeddings"))

    change_graph(other, edit)
    weights = diff(package, other).graphs["model"].weights
    assert (weights.same, weights.changed, weights.removed, weights.added) == (1, {"embeddings": 0.25}, (), ())


def test_a_weight_of_another_name_is_the_same_and_one_of_another_shape_is_not(package: Path, other: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.initializer[0].name = "table"
        graph.node[0].input[0] = "table"
        graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-1, 0]), "last"))

    change_graph(other, edit)
    weights = diff(package, other).graphs["model"].weights
    assert (weights.same, weights.changed, weights.removed, weights.added) == (1, {"last": None}, (), ())


def test_an_attribute_that_changed_is_told(package: Path, other: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node[0].attribute.append(helper.make_attribute("axis", 1))

    change_graph(package, lambda graph: graph.node[0].attribute.append(helper.make_attribute("axis", 0)))
    change_graph(other, edit)
    found = diff(package, other).graphs["model"]
    assert found.operators == {}
    assert found.attributes == {"Gather(axis=0)": (1, 0), "Gather(axis=1)": (0, 1)}


def branched(number: float, text: bytes) -> onnx.NodeProto:
    """A node with graphs inside it, whose weights hold `number` and `text`."""
    weights = [helper.make_tensor("inside", onnx.TensorProto.FLOAT, [2], [number, float("-inf")])]
    weights.append(helper.make_tensor("words", onnx.TensorProto.STRING, [1], [text]))
    out = helper.make_tensor_value_info("inside", onnx.TensorProto.FLOAT, [2])
    body = helper.make_graph([], "body", [], [out], weights)
    return helper.make_node("If", ["flag"], ["chosen"], then_branch=body, else_branch=body)


def test_weights_in_graphs_inside_are_compared_and_infinities_and_words_too(package: Path, other: Path) -> None:
    change_graph(package, lambda graph: graph.node.append(branched(1.0, b"yes")))
    change_graph(other, lambda graph: graph.node.append(branched(1.5, b"no")))
    found = diff(package, other).graphs["model"]
    both = {f"chosen.{branch}_branch." for branch in ("then", "else")}
    wanted = {f"{branch}inside": 0.5 for branch in both} | {f"{branch}words": None for branch in both}
    assert (found.weights.same, found.weights.changed) == (2, wanted)
    assert (found.operators, found.attributes) == ({}, {})


def test_weights_that_changed_places_are_not_the_same(package: Path, other: Path) -> None:
    def add(first: float, second: float) -> Any:
        tensors = [
            numpy_helper.from_array(np.array([value], np.float32), name)
            for name, value in (("a", first), ("b", second))
        ]
        return lambda graph: graph.initializer.extend(tensors)

    change_graph(package, add(1.0, np.inf))
    change_graph(other, add(np.inf, 1.0))
    weights = diff(package, other).graphs["model"].weights
    assert (weights.same, weights.changed) == (2, {"a": None, "b": None})


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_package_that_is_damaged_is_not_compared(name: str, package: Path, other: Path) -> None:
    content = bytearray((other / name).read_bytes())
    content[-1] ^= 1
    (other / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"the package is not what was built: {name} has another content"):
        diff(package, other)


def test_config_tools_parity_latency_and_hosts_are_compared(package: Path, other: Path) -> None:
    for folder, opset, p50 in ((package, 17, 2.0), (other, 20, 1.0)):
        change(
            folder,
            build={"opset": {"version": opset}, "exporter": {"kind": "dynamo"}},
            tools={"torch": f"2.{opset}"},
            validation={"status": "strict", "checks": {"weights": f"{opset} equal"}},
            benchmark={"cases": {"1x16": {"onnxruntime": {"p50_ms": p50}}}, "host": {"cores": "2"}},
        )
    found = diff(package, other)
    assert found.config == {"build.opset.version": (17, 20)}
    assert found.tools == {"torch": ("2.17", "2.20")}
    assert found.parity == {"weights": ("17 equal", "20 equal")}
    assert found.latency == {"1x16": (2.0, 1.0)}
    assert found.hosts == {}


def test_what_one_side_alone_has_is_told(package: Path, other: Path) -> None:
    shutil.copy(other / "model.onnx", other / "decoder.onnx")
    graph = read_manifest(other).graphs["model"]
    tensor = replace(graph.signature.inputs[0], dtype="int32")
    first = replace(graph, signature=replace(graph.signature, inputs=(tensor, *graph.signature.inputs[1:])))
    change(other, graphs={"model": first, "decoder": replace(graph, file="decoder.onnx")})
    found = diff(package, other)
    assert (found.removed, found.added) == ((), ("decoder",))
    name = graph.signature.inputs[0].name
    assert found.graphs["model"].tensors == {f"input {name}": ("int64 (batch, sequence)", "int32 (batch, sequence)")}
    assert found.files["decoder.onnx"][0] is None
    assert diff(other, package).removed == ("decoder",)


def test_the_command_prints_a_table_or_json(package: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(other, tools={"torch": "2.13.0"}, name="other")
    assert main(["diff", str(package), str(other)]) == 0
    out = capsys.readouterr().out
    assert f"A {package}" in out
    assert f"B {other}" in out
    assert any(line.split() == ["tools", "torch", "-", "2.13.0"] for line in out.splitlines())
    assert main(["diff", "--json", str(package), str(other)]) == 0
    assert json.loads(capsys.readouterr().out)["tools"] == {"torch": [None, "2.13.0"]}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["diff"], 2, "the following arguments are required: A, B: see python -m modelbuild diff --help"),
        (["diff", "{package}"], 2, "the following arguments are required: B"),
        (["diff", "{package}", "nowhere"], 6, "no such folder: nowhere"),
        (["diff", "{package}", "{package}", "--deep"], 2, "unrecognized arguments: --deep"),
        (["diff", "{package}", "registry:tiny"], 7, "no registry is known"),
        (["verify"], 2, "the following arguments are required: PACKAGE"),
        (["package", "{package}"], 2, "the following arguments are required: --for"),
        (["package", "{package}", "--for", "tritn"], 2, "invalid choice: 'tritn'"),
        (["package", "{package}", "--for", "triton", "--max-batch-size", "0"], 2, "0 is below 1"),
        (["package", "nowhere", "--for", "triton"], 6, "no such folder: nowhere"),
        (["sign", "{package}"], 2, "the following arguments are required: --private-key"),
        (["registry"], 2, "the following arguments are required: ACTION"),
        (["registry", "ad"], 2, "invalid choice: 'ad'"),
        (["registry", "list"], 7, "no registry is known: set MODELBUILD_REGISTRY"),
    ],
)
def test_words_that_mean_nothing_are_one_line(
    words: list[str],
    code: int,
    said: str,
    package: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODELBUILD_REGISTRY", raising=False)
    assert main([word.replace("{package}", str(package)) for word in words]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_graph_that_cannot_be_read_is_named(package: Path, other: Path) -> None:
    (other / "model.onnx").write_bytes(b"no graph")
    change(other)
    with pytest.raises(PackageError, match=r"model\.onnx"):
        diff(package, other)


def test_changes_come_in_the_order_of_both() -> None:
    assert changes({"a": 1, "b": 2, "c": 3}, {"b": 2, "d": 4, "a": 0}) == {"a": (1, 0), "c": (3, None), "d": (None, 4)}
    assert list(changes({"a": 1, "b": 2, "c": 3}, {"b": 2, "d": 4, "a": 0})) == ["a", "c", "d"]
