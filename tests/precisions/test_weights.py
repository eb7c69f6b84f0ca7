"""Weights in blocks: every linear layer, every element within half a step, and what is kept is as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from precisions.linear_graphs import (
    DOWN,
    INPUTS,
    OUTPUTS,
    UP,
    distance,
    graph_file,
    operators,
    outputs_of,
    some,
    tensors,
    two_layers,
)

from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, data_file, read_graph
from modelbuild.node_tags import read_tag
from modelbuild.precision_spec import WeightsPrecision
from modelbuild.precisions import weights
from modelbuild.precisions.weights import in_blocks
from modelbuild.weights.quantized import blocks

Kind = Literal["int8_weights", "int4"]
WEIGHT = np.random.default_rng(2).standard_normal((INPUTS, OUTPUTS)).astype(np.float32)


def _precision(kind: Kind, block_size: Any = 32, accuracy_level: Any = 0) -> WeightsPrecision:
    return WeightsPrecision(
        kind=kind, block_size=block_size, accuracy_level=accuracy_level, max_fp32_layers=0, min_cosine=0, min_top_1=0
    )


def _reduced(source: Path, kind: Kind = "int4", **options: Any) -> Path:
    out = source.parent / f"{kind}-{len(list(source.parent.iterdir()))}"
    out.mkdir()
    keep = options.pop("keep", frozenset())
    weights.reduce(source, out / MODEL_FILE, _precision(kind, **options), keep=keep)
    return out / MODEL_FILE


@pytest.mark.parametrize("block_size", [16, 32, 64, 256])
@pytest.mark.parametrize("accuracy_level", [0, 1, 4])
@pytest.mark.parametrize(("kind", "near"), [("int8_weights", 0.02), ("int4", 0.2)])
def test_all_linear_layers_are_in_blocks_and_the_result_is_near(
    kind: Kind, near: float, accuracy_level: int, block_size: int, tmp_path: Path
) -> None:
    source = two_layers(tmp_path)
    out = _reduced(source, kind, block_size=block_size, accuracy_level=accuracy_level)
    assert operators(out) == ["MatMulNBits", "Add", "Relu", "MatMulNBits", "Add"]
    assert weights.layers(source, _precision(kind)) == ("first", "second")
    assert 0 < distance(source, out, some()) < near


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_every_opset_is_kept(opset: int, tmp_path: Path) -> None:
    source = two_layers(tmp_path, opset=opset)
    out = _reduced(source)
    assert read_graph(out).opsets[""] == opset
    assert distance(source, out, some()) < 0.2


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 5, 32, 33, 100])
def test_no_element_is_off_by_more_than_half_a_step(bits: int, rows: int) -> None:
    rng = np.random.default_rng(rows)
    for matrix in (rng.standard_normal((rows, 9)), rng.random((rows, 9)) + 5, np.zeros((rows, 9))):
        values = matrix.astype(np.float32)
        made = in_blocks(values, bits, 16)
        grid = blocks(made.packed, made.scales, made.zero_points, rows, bits)
        assert grid.values.shape == values.shape
        assert (np.abs(grid.values - values) <= 0.501 * grid.steps).all()


@pytest.mark.parametrize(
    ("nodes", "stored"),
    [
        ([helper.make_node("MatMul", ["x", "w"], ["y"], name="only")], WEIGHT),
        ([helper.make_node("Gemm", ["x", "w"], ["y"], name="only")], WEIGHT),
        ([helper.make_node("Gemm", ["x", "w"], ["y"], name="only", transB=1)], WEIGHT.T.copy()),
        ([helper.make_node("FusedMatMul", ["x", "w"], ["y"], name="only", domain="com.microsoft", transB=1)],
         WEIGHT.T.copy()),
        ([helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
          helper.make_node("MatMul", ["x", "t"], ["y"], name="only")], WEIGHT.T.copy()),
    ],
)  # fmt: skip
def test_a_matrix_is_found_however_it_is_stored(nodes: list[onnx.NodeProto], stored: Any, tmp_path: Path) -> None:
    source = graph_file(tmp_path, nodes, {"w": stored})
    out = _reduced(source, "int8_weights")
    assert operators(out) == ["MatMulNBits"]
    assert "w" not in tensors(out)
    assert distance(source, out, some()) < 0.02


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5),
        helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", alpha=2.0),
    ],
)
def test_what_is_more_than_a_multiplication_is_left_as_it_is(node: onnx.NodeProto, tmp_path: Path) -> None:
    assert weights.layers(graph_file(tmp_path, [node], {"w": WEIGHT}), _precision("int4")) == ()


def test_what_is_kept_is_as_it_was_to_the_bit(tmp_path: Path) -> None:
    out = _reduced(two_layers(tmp_path), keep=frozenset({"first"}))
    assert operators(out) == ["MatMul", "Add", "Relu", "MatMulNBits", "Add"]
    assert np.array_equal(tensors(out)["up"], UP)
    assert not any(np.array_equal(values, DOWN) for values in tensors(out).values())


def test_signature_axes_and_tags_stay_and_the_source_too(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    before = source.read_bytes()
    out = _reduced(source)
    assert read_graph(out).signature == read_graph(source).signature
    assert source.read_bytes() == before
    tags = [read_tag(node) for node in onnx.load(out).graph.node]
    assert [tag.module if tag else None for tag in tags] == ["up", "up", "", "down", "down"]


def test_layers_that_share_a_weight_share_its_blocks(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["x", "w"], ["b"], name="two"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    out = _reduced(graph_file(tmp_path, nodes, {"w": WEIGHT}))
    assert len({node.input[1] for node in onnx.load(out).graph.node if node.op_type == "MatMulNBits"}) == 1
    assert len(tensors(out)) == 3


def test_weights_are_beside_the_graph_and_the_same_each_time(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    first, second = _reduced(source, "int8_weights"), _reduced(source, "int8_weights")
    assert set(read_graph(first).data_files) == {data_file(MODEL_FILE)}
    for name in (MODEL_FILE, data_file(MODEL_FILE)):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_nodes_without_a_name_of_their_own_are_known_by_what_they_make(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="same"),
        helper.make_node("MatMul", ["x", "w"], ["b"], name="same"),
        helper.make_node("MatMul", ["x", "w"], ["c"]),
        helper.make_node("Sum", ["a", "b", "c"], ["y"]),
    ]
    source = graph_file(tmp_path, nodes, {"w": WEIGHT})
    assert weights.layers(source, _precision("int4")) == ("a", "b", "c")
    out = _reduced(source, keep=frozenset({"b"}))
    assert operators(out) == ["MatMulNBits", "MatMul", "MatMulNBits", "Sum"]


def test_layers_in_a_subgraph_are_found_with_a_weight_outside(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["batch", OUTPUTS])]
        )
        for name, node in {
            "then": helper.make_node("MatMul", ["x", "w"], ["one"], name="inside"),
            "else": helper.make_node("Slice", ["x", "from", "to", "along"], ["other"]),
        }.items()
    }
    node = helper.make_node("If", ["flag"], ["y"], **branches)
    constants = {"w": WEIGHT, "flag": np.array(True), "from": [0], "to": [OUTPUTS], "along": [1]}
    source = graph_file(tmp_path, [node], constants)
    out = _reduced(source, "int8_weights")
    assert weights.layers(source, _precision("int4")) == ("inside",)
    assert distance(source, out, some()) < 0.02
    assert outputs_of(out, some()).shape == (6, OUTPUTS)


def _no_layer(folder: Path) -> Path:
    return graph_file(folder, [helper.make_node("Relu", ["x"], ["y"])], {}, outputs={"y": ["batch", INPUTS]})


def _two_inputs(folder: Path) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return graph_file(folder, [node], {}, inputs={"x": ["batch", INPUTS], "w": [INPUTS, OUTPUTS]})


def _default_only(folder: Path) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs: dict[str, Any] = {"x": ["batch", INPUTS], "w": [INPUTS, OUTPUTS]}
    return graph_file(folder, [node], {"w": WEIGHT}, inputs=inputs)


def _not_a_number(folder: Path) -> Path:
    return two_layers(folder, up=np.where(UP[3, 3] == UP, np.nan, UP).astype(np.float32))


def _not_a_model(folder: Path) -> Path:
    (folder / MODEL_FILE).write_bytes(b"GIF89a")
    return folder / MODEL_FILE


def _no_file(folder: Path) -> Path:
    return folder / MODEL_FILE


@pytest.mark.parametrize(
    ("make", "keep", "message"),
    [
        (_no_layer, "", "the graph has no linear layer .*: choose precision=fp32"),
        (_two_inputs, "", "the graph has no linear layer"),
        (_default_only, "", "the graph has no linear layer"),
        (_not_a_number, "", "the weight up has values that are not finite: first"),
        (_not_a_model, "", "not a graph that can be read"),
        (_no_file, "", "not a graph that can be read"),
        (two_layers, "third", "the graph has no linear layer third"),
    ],
)
def test_what_cannot_be_reduced_is_refused_with_its_name(make: Any, keep: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match=message):
        _reduced(make(tmp_path), keep=frozenset({keep} - {""}))
