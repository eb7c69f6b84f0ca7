"""Static 8 bits: ranges from calibration data, one large channel that does no harm, and refusals that say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from modelbuild.precision_spec import Int8Precision
from modelbuild.precisions import int8_static
from modelbuild.precisions.int8_static import find_ranges

PRECISION = Int8Precision(kind="int8_static", max_fp32_layers=0, min_cosine=0, min_top_1=0)
CALIBRATION = [some(20, seed) for seed in range(5)]
LAYER = ["Mul", "QuantizeLinear", "MatMulIntegerToFloat"]


def _reduced(source: Path, **options: Any) -> Path:
    out = source.parent / f"static-{len(list(source.parent.iterdir()))}"
    out.mkdir()
    int8_static.reduce(source, out / MODEL_FILE, PRECISION, **({"calibration": CALIBRATION} | options))
    return out / MODEL_FILE


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_all_linear_layers_are_in_8_bits_and_the_result_is_near(opset: int, tmp_path: Path) -> None:
    source = two_layers(tmp_path, opset=opset)
    out = _reduced(source)
    assert operators(out) == [*LAYER, "Add", "Relu", *LAYER, "Add"]
    assert read_graph(out).opsets[""] == opset
    assert 0 < distance(source, out, some(seed=9)) < 0.03


def test_a_channel_that_is_far_larger_than_others_does_no_harm(tmp_path: Path) -> None:
    def large(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"x": inputs["x"] * np.where(np.arange(INPUTS) == 7, 300, 1).astype(np.float32)}

    up = UP / np.where(np.arange(INPUTS) == 7, 300, 1).astype(np.float32)[:, None]
    source = two_layers(tmp_path, up=up)
    out = _reduced(source, calibration=[large(inputs) for inputs in CALIBRATION])
    assert distance(source, out, large(some(seed=9))) < 0.05


def test_ranges_are_those_of_all_batches_channel_by_channel(tmp_path: Path) -> None:
    found = find_ranges(two_layers(tmp_path), ["x", "positive"], CALIBRATION)
    rows = np.concatenate([inputs["x"] for inputs in CALIBRATION])
    assert np.array_equal(found["x"].lowest, rows.min(axis=0))
    assert np.array_equal(found["x"].highest, rows.max(axis=0))
    assert (found["positive"].lowest >= 0).all()


def test_what_several_layers_read_is_quantized_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "one"], ["a"]),
        helper.make_node("MatMul", ["x", "two"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    source = graph_file(tmp_path, nodes, {"one": UP[:, :OUTPUTS].copy(), "two": UP[:, OUTPUTS:].copy()})
    out = _reduced(source)
    assert operators(out).count("QuantizeLinear") == 1
    assert distance(source, out, some(seed=9)) < 0.03


def test_a_layer_that_reads_what_another_gives_reads_what_is_in_its_place(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "one"], ["inner"], name="first"),
        helper.make_node("MatMul", ["inner", "two"], ["y"], name="second"),
    ]
    source = graph_file(tmp_path, nodes, {"one": UP, "two": DOWN.T.copy()})
    assert distance(source, _reduced(source), some(seed=9)) < 0.03
    assert distance(source, _reduced(source, keep=frozenset({"first"})), some(seed=9)) < 0.03


def test_a_channel_that_is_always_zero_and_a_row_of_zeros_are_no_trouble(tmp_path: Path) -> None:
    up = UP.copy()
    up[3] = 0
    source = two_layers(tmp_path, up=up)
    zero = [{"x": np.where(np.arange(INPUTS) == 5, 0, inputs["x"])} for inputs in CALIBRATION]
    assert distance(source, _reduced(source, calibration=zero), zero[0]) < 0.03
    assert np.isfinite(
        outputs_of(_reduced(source, calibration=[{"x": 0 * inputs["x"]} for inputs in zero]), some())
    ).all()


def test_what_is_kept_is_as_it_was_to_the_bit(tmp_path: Path) -> None:
    out = _reduced(two_layers(tmp_path), keep=frozenset({"first"}))
    assert operators(out) == ["MatMul", "Add", "Relu", *LAYER, "Add"]
    assert np.array_equal(tensors(out)["up"], UP)


def test_signature_tags_and_files(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    first, second = _reduced(source), _reduced(source)
    assert read_graph(first).signature == read_graph(source).signature
    assert set(read_graph(first).data_files) == {data_file(MODEL_FILE)}
    tags = [read_tag(node) for node in onnx.load(first).graph.node]
    assert [tag.module if tag else None for tag in tags] == [*["up"] * 4, "", *["down"] * 4]
    assert first.read_bytes() == second.read_bytes()


def test_layers_of_a_subgraph_are_not_among_the_layers(tmp_path: Path) -> None:
    output = helper.make_tensor_value_info("inside", TensorProto.FLOAT, ["batch", OUTPUTS])
    branch = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["inside"])], "branch", [], [output])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    source = graph_file(tmp_path, [node], {"w": UP[:, :OUTPUTS].copy(), "flag": np.array(True)})
    assert int8_static.layers(source, PRECISION) == ()


def _broken(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"x": np.where(inputs["x"] == inputs["x"][0, 0], np.nan, inputs["x"])}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": []}, "needs data to find the ranges of activations on: .*: give calibration data, or choose"),
        ({"calibration": [{}]}, "does not run on the calibration data: .*: give it all inputs"),
        ({"calibration": [{"x": np.zeros((2, 3), np.float32)}]}, "does not run on the calibration data"),
        ({"calibration": [{"x": np.zeros((2, INPUTS), np.int64)}]}, "does not run on the calibration data"),
        ({"calibration": [_broken(some())]}, "on the calibration data values are not finite: x"),
        ({"calibration": [{"x": np.zeros((0, INPUTS), np.float32)}]}, "the calibration data has no values: x"),
        ({"keep": frozenset({"third"})}, "the graph has no linear layer third"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match=message):
        _reduced(two_layers(tmp_path), **options)


@pytest.mark.parametrize("up", [np.where(UP[0, 0] == UP, np.inf, UP).astype(np.float32)])
def test_a_weight_that_is_not_finite_is_named(up: Any, tmp_path: Path) -> None:
    kept = frozenset({"second"})
    with pytest.raises(OptimizeError, match="the weight up has values that are not finite: first"):
        _reduced(two_layers(tmp_path, up=up), keep=kept)


def test_a_graph_without_a_linear_layer_is_refused(tmp_path: Path) -> None:
    source = graph_file(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {}, outputs={"y": ["batch", INPUTS]})
    with pytest.raises(OptimizeError, match="no linear layer"):
        _reduced(source)


def test_all_layers_may_be_kept(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    kept = frozenset(int8_static.layers(source, PRECISION))
    assert distance(source, _reduced(source, keep=kept), some()) == 0
