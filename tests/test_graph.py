from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelbuild.errors import PackageError
from modelbuild.graph import (
    MODEL_FILE,
    installed_version,
    node_type,
    read_graph,
)
from modelbuild.node_tags import CLASSES_KEY, SCOPES_KEY
from modelbuild.signature import TensorSpec

SCOPES = ("['', 'encoder', 'encoder.layer', 'add']", "['', 'encoder', 'encoder.layer', 'gelu']", "['', 'relu']", None)


def tiny(opset: int = 18, ir_version: int = 8) -> Any:
    """Four nodes, three of them tagged and one of a Microsoft domain; a weight that is an input too."""
    axes = ["batch", "sequence", 4]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, axes),
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4]),
        helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", None]),
    ]
    nodes = [
        helper.make_node("Add", ["x", "weight"], ["a"]),
        helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("Relu", ["b"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    for node, scopes in zip(nodes, SCOPES, strict=True):
        if scopes:
            node.metadata_props.add(key=SCOPES_KEY, value=scopes)
        node.metadata_props.add(key=CLASSES_KEY, value="[]")
    outputs = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, axes),
        helper.make_tensor_value_info("y", TensorProto.FLOAT16, []),
    ]
    weight = numpy_helper.from_array(np.ones(4, dtype=np.float32), "weight")
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [weight])
    domains = (("", opset), ("com.microsoft", 1), ("ai.onnx.ml", 3))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*d) for d in domains], ir_version=ir_version)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(tiny(), tmp_path / MODEL_FILE)
    return tmp_path / MODEL_FILE


def test_the_signature_has_inputs_and_outputs_in_order_without_weights(model: Path) -> None:
    signature = read_graph(model).signature
    assert signature.input_names() == ("x", "mask")
    assert signature.inputs[0] == TensorSpec(name="x", dtype="float32", shape=("batch", "sequence", 4))
    assert signature.inputs[1] == TensorSpec(name="mask", dtype="int64", shape=("batch", "mask.1"))
    assert signature.outputs[1] == TensorSpec(name="y", dtype="float16", shape=())


def test_axes_with_a_name_are_symbolic_and_axes_with_a_size_are_not(model: Path) -> None:
    assert read_graph(model).signature.outputs[0].symbolic_axes() == {"batch", "sequence"}


def test_opsets_are_those_of_the_domains_that_are_used(model: Path) -> None:
    assert read_graph(model).opsets == {"": 18, "com.microsoft": 1}


def test_the_default_domain_counts_even_where_no_node_uses_it(tmp_path: Path) -> None:
    proto = tiny()
    del proto.graph.node[:]
    onnx.save(proto, tmp_path / MODEL_FILE)
    assert read_graph(tmp_path / MODEL_FILE).opsets == {"": 18}


def test_operators_are_counted_with_their_domain(model: Path) -> None:
    facts = read_graph(model)
    assert facts.operators == {"Add": 1, "Relu": 2, "com.microsoft.Gelu": 1}
    assert list(facts.operators) == sorted(facts.operators)
    assert facts.nodes == 4
    assert node_type("com.microsoft", "Gelu") == "com.microsoft.Gelu"


def test_a_node_is_tagged_when_it_names_its_module(model: Path) -> None:
    assert read_graph(model).tagged_nodes == 3


@pytest.mark.parametrize(
    ("opset", "ir_version", "oldest"),
    [
        (17, 8, "1.12"),
        (18, 8, "1.14"),
        (19, 8, "1.15"),
        (20, 8, "1.17"),
        (20, 9, "1.17"),
        (17, 10, "1.18"),
        (21, 10, "1.18"),
        (22, 10, "1.21"),
        (23, 10, "1.23"),
        (17, 11, "1.23"),
        (13, 7, "1.12"),
    ],
)
def test_the_oldest_onnxruntime_has_both_the_opset_and_the_ir(
    opset: int, ir_version: int, oldest: str, model: Path
) -> None:
    onnx.save(tiny(opset, ir_version), model)
    facts = read_graph(model)
    assert (facts.opsets[""], facts.ir_version) == (opset, ir_version)
    assert facts.oldest_onnxruntime() == oldest


@pytest.mark.parametrize(
    ("operator", "oldest"), [("Attention", "1.19"), ("MultiHeadAttention", "1.21"), ("Gelu", "1.12")]
)
def test_fused_attention_needs_a_release_that_computes_it_right(operator: str, oldest: str, model: Path) -> None:
    onnx.save(tiny(17, 8), model)
    facts = replace(read_graph(model), operators={"MatMul": 2, f"com.microsoft.{operator}": 1})
    assert facts.oldest_onnxruntime() == oldest


def test_what_no_table_names_needs_the_release_that_is_installed(model: Path) -> None:
    facts, installed = read_graph(model), ".".join(ort.__version__.split(".")[:2])
    assert replace(facts, opsets={"": 25}).oldest_onnxruntime() == installed
    assert replace(facts, ir_version=13).oldest_onnxruntime() == installed


def test_what_is_broken_in_another_distribution_does_not_matter(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    (tmp_path / "empty-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    release = ".".join(ort.__version__.split(".")[:2])
    assert replace(read_graph(model), opsets={"": 99}).oldest_onnxruntime() == release
    assert installed_version("empty") is None
    assert installed_version("not-there-at-all") is None


def test_the_default_domain_may_be_spelled_out(model: Path) -> None:
    proto = tiny()
    for item in (proto.opset_import[0], proto.graph.node[0]):
        item.domain = "ai.onnx"
    onnx.save(proto, model)
    facts = read_graph(model)
    assert facts.opsets == {"": 18, "com.microsoft": 1}
    assert facts.operators == {"Add": 1, "Relu": 2, "com.microsoft.Gelu": 1}


def test_axes_without_a_name_are_not_taken_for_one(model: Path) -> None:
    proto = tiny()
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            axis.Clear()
    onnx.save(proto, model)
    signature = read_graph(model).signature
    assert [tensor.shape for tensor in signature.inputs] == [("x.0", "x.1", "x.2"), ("mask.0", "mask.1")]


def test_nodes_of_subgraphs_and_functions_count(model: Path) -> None:
    proto = tiny()
    inner = helper.make_node("Sigmoid", ["y"], ["i"])
    inner.metadata_props.add(key=SCOPES_KEY, value="['', 'head', 'sigmoid']")
    branch = helper.make_graph([inner], "branch", [], [helper.make_tensor_value_info("i", TensorProto.FLOAT, None)])
    proto.graph.node.append(helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch))
    body = [helper.make_node("Tanh", ["a"], ["b"], domain="ai.onnx.ml")]
    proto.functions.append(helper.make_function("mine", "f", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))
    onnx.save(proto, model)
    facts = read_graph(model)
    assert facts.operators == {
        "Add": 1, "If": 1, "Relu": 2, "Sigmoid": 2, "ai.onnx.ml.Tanh": 1, "com.microsoft.Gelu": 1
    }  # fmt: skip
    assert (facts.nodes, facts.tagged_nodes) == (8, 5)
    assert facts.opsets == {"": 18, "com.microsoft": 1, "ai.onnx.ml": 3}


def test_data_files_are_named_with_the_size_that_they_must_have(tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILE
    onnx.save(tiny(), path, save_as_external_data=True, location="some weights", size_threshold=0)
    assert read_graph(path).data_files == {"some weights": 16}
    onnx.save(tiny(), path)
    assert read_graph(path).data_files == {}


def test_weights_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILE
    onnx.save(tiny(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    (tmp_path / "model.onnx.data").unlink()
    assert read_graph(path).nodes == 4


@pytest.mark.parametrize("content", [b"", b"not a protobuf", b"{}", b"\x08\x0a"])
def test_what_is_not_an_onnx_file_is_a_package_error(content: bytes, model: Path) -> None:
    model.write_bytes(content)
    with pytest.raises(PackageError, match=r"not an ONNX file.*model\.onnx"):
        read_graph(model)


def test_half_an_onnx_file_is_a_package_error(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-20])
    with pytest.raises(PackageError, match="not an ONNX file"):
        read_graph(model)


def test_a_missing_file_and_a_folder_are_package_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(PackageError):
            read_graph(path)
