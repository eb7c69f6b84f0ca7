"""Dynamic 8 bits: a scale for each row, one quantization for all that read it, large channels evened out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from precisions.linear_graphs import (
    DOWN,
    INNER,
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

from modelbuild.checks.quantized_weights import quantized_tensors
from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, data_file, read_graph
from modelbuild.node_tags import all_nodes, load_graph, read_tag
from modelbuild.precision_spec import Int8Precision
from modelbuild.precisions import int8

PRECISION = Int8Precision(kind="int8", max_fp32_layers=0, min_cosine=0, min_top_1=0)
CALIBRATION = [some(20, seed) for seed in range(5)]
LAYER = ["Abs", "ReduceMax", "Div", "QuantizeLinear", "MatMulIntegerToFloat", "Mul"]
OUTLIER = np.where(np.arange(INPUTS) == 7, 300, 1).astype(np.float32)


def _reduced(source: Path, **options: Any) -> Path:
    out = source.parent / f"int8-{len(list(source.parent.iterdir()))}"
    out.mkdir()
    int8.reduce(source, out / MODEL_FILE, PRECISION, **options)
    return out / MODEL_FILE


def _positions(folder: Path, *names: str, weights: dict[str, Any] | None = None) -> Path:
    """Layers of those names, which all read `x` of any batch and length, and whose weights may be shared."""
    nodes = [helper.make_node("MatMul", ["x", f"{name}.weight"], [name], name=name) for name in names]
    return graph_file(
        folder,
        nodes,
        weights or {f"{name}.weight": UP + place for place, name in enumerate(names)},
        inputs={"x": ["batch", "sequence", INPUTS]},
        outputs={name: ["batch", "sequence", INNER] for name in names},
    )


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_all_linear_layers_are_in_8_bits_and_the_result_is_near(opset: int, tmp_path: Path) -> None:
    source = two_layers(tmp_path, opset=opset)
    out = _reduced(source)
    assert int8.layers(source, PRECISION) == ("first", "second")
    assert operators(out) == [*LAYER, "Add", "Relu", *LAYER, "Add"]
    assert read_graph(out).opsets[""] == opset
    assert 0 < distance(source, out, some(seed=9)) < 0.02


def test_a_row_gives_the_same_alone_and_beside_one_that_is_far_larger(tmp_path: Path) -> None:
    out = _reduced(two_layers(tmp_path))
    inputs = some(5)["x"] * np.array([[1], [1000], [1], [1e-3], [1]], np.float32)
    together = outputs_of(out, {"x": inputs})
    alone = [outputs_of(out, {"x": inputs[row : row + 1]}) for row in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("level", [1.0, 1e-30, 1e30])
def test_rows_of_any_size_are_as_near(level: float, tmp_path: Path) -> None:
    source = _positions(tmp_path, "q")
    inputs = {"x": some(6)["x"][None] * np.float32(level)}
    assert distance(source, _reduced(source), inputs) < 0.02


def test_a_row_of_zeros_gives_zeros(tmp_path: Path) -> None:
    inputs = {"x": np.stack([some(3)["x"], np.zeros((3, INPUTS), np.float32)])}
    found = outputs_of(_reduced(_positions(tmp_path, "q")), inputs)
    np.testing.assert_array_equal(found[1], 0)
    assert found[0].any()


def test_layers_that_read_the_same_quantize_it_once(tmp_path: Path) -> None:
    source = _positions(tmp_path, "q", "k", "v")
    out = _reduced(source, calibration=[{"x": inputs["x"][None]} for inputs in CALIBRATION])
    assert operators(out) == [*LAYER, *LAYER[-2:] * 2]
    assert distance(source, out, {"x": some(8)["x"].reshape(2, 4, INPUTS)}) < 0.02


def test_a_weight_that_several_layers_share_is_written_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["once"], name="one"),
        helper.make_node("MatMul", ["once", "weight"], ["y"], name="two"),
    ]
    weights = {"weight": np.diag(OUTLIER)}
    source = graph_file(tmp_path, nodes, weights, outputs={"y": ["batch", INPUTS]})
    out = _reduced(source, calibration=[{"x": inputs["x"] * OUTLIER} for inputs in CALIBRATION])
    assert operators(out) == LAYER * 2  # not smoothed: that is another weight for each
    assert [name for name, values in tensors(out).items() if values.dtype == np.int8] == ["one/weight.quantized"]


def test_a_layer_that_is_kept_stays_what_it_is_to_the_bit(tmp_path: Path) -> None:
    source = _positions(tmp_path, "q", "k", "v")
    out = _reduced(source, keep=frozenset({"q"}))
    assert operators(out).count("MatMul") == 1
    np.testing.assert_array_equal(tensors(out)["q.weight"], UP)
    inputs = {"x": some(8)["x"][None]}
    np.testing.assert_array_equal(outputs_of(out, inputs), outputs_of(source, inputs))


def test_all_layers_may_be_kept(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    assert distance(source, _reduced(source, keep=frozenset({"first", "second"})), some()) == 0


def test_a_channel_that_is_far_larger_than_others_is_evened_out_by_calibration(tmp_path: Path) -> None:
    source = two_layers(tmp_path, up=UP / OUTLIER[:, None])
    inputs = {"x": some(20, 9)["x"] * OUTLIER}
    calibrated = _reduced(source, calibration=[{"x": inputs["x"] * OUTLIER} for inputs in CALIBRATION])
    assert operators(calibrated) == ["Mul", *LAYER, "Add", "Relu", *LAYER, "Add"]
    assert distance(source, calibrated, inputs) < 0.03
    assert distance(source, _reduced(source), inputs) > 0.2


def test_even_channels_are_left_as_they_are_by_calibration(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    assert operators(_reduced(source, calibration=CALIBRATION)) == operators(_reduced(source))


def test_calibration_data_that_is_not_finite_in_places_is_used_where_it_is(tmp_path: Path) -> None:
    source = two_layers(tmp_path, up=UP / OUTLIER[:, None])
    inputs = CALIBRATION[0]["x"] * OUTLIER
    inputs[3] = np.inf
    assert operators(_reduced(source, calibration=[{"x": inputs}]))[0] == "Mul"
    assert operators(_reduced(source, calibration=[{"x": inputs[3:4]}])) == operators(_reduced(source))


def test_signature_tags_and_source_are_kept_and_weights_lie_beside(tmp_path: Path) -> None:
    source = two_layers(tmp_path, up=UP / OUTLIER[:, None])
    before = source.read_bytes()
    out = _reduced(source, calibration=[{"x": inputs["x"] * OUTLIER} for inputs in CALIBRATION])
    assert source.read_bytes() == before
    assert read_graph(out).signature == read_graph(source).signature
    tags = [tag.module if (tag := read_tag(node)) else None for node in all_nodes(load_graph(out))]
    assert tags == ["up"] * 8 + [""] + ["down"] * 7
    assert set(read_graph(out).data_files) == {data_file(MODEL_FILE)}
    assert sorted(path.name for path in out.parent.iterdir()) == [MODEL_FILE, data_file(MODEL_FILE)]
    assert (out.parent / data_file(MODEL_FILE)).stat().st_size < (UP.nbytes + DOWN.nbytes) / 2


def test_the_same_is_written_twice(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    first, second = (_reduced(source, calibration=CALIBRATION) for _ in range(2))
    for name in (MODEL_FILE, data_file(MODEL_FILE)):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_an_embedding_table_stays_in_fp32_where_it_is_a_layer_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("Transpose", ["table"], ["head.weight"], perm=[1, 0]),
        helper.make_node("MatMul", ["embedded", "head.weight"], ["y"], name="head"),
    ]
    source = graph_file(
        tmp_path, nodes, {"table": UP}, inputs={"ids": ["batch", "sequence"]},
        outputs={"y": ["batch", "sequence", INPUTS]}, kinds={"ids": TensorProto.INT64},
    )  # fmt: skip
    out = _reduced(source)
    assert operators(out) == ["Gather", *LAYER]
    np.testing.assert_array_equal(tensors(out)["table"], UP)
    assert distance(source, out, {"ids": np.arange(12).reshape(3, 4)}) < 0.02


def test_layers_in_the_branches_of_an_operator_are_in_8_bits_too(tmp_path: Path) -> None:
    output = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", INNER])
    branches = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["x", "up"], ["result"], name=which)], which, [], [output]
        )
        for which in ("then", "else")
    }
    nodes = [helper.make_node("If", ["given"], ["y"], **branches)]
    source = graph_file(
        tmp_path, nodes, {"up": UP}, inputs={"x": ["batch", INPUTS], "given": []},
        outputs={"y": ["batch", INNER]}, kinds={"given": TensorProto.BOOL},
    )  # fmt: skip
    inputs = some() | {"given": np.array(True)}
    out = _reduced(source, calibration=[inputs])
    assert sorted(int8.layers(source, PRECISION)) == ["else", "then"]
    assert [node.op_type for node in all_nodes(load_graph(out))].count("MatMulIntegerToFloat") == 2
    assert 0 < distance(source, out, inputs) < 0.02


def test_a_graph_without_a_linear_layer_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "other"], ["y"])]
    inputs: dict[str, list[Any]] = {"x": ["batch", INPUTS], "other": [INPUTS, OUTPUTS]}
    source = graph_file(tmp_path, nodes, {}, inputs=inputs)
    with pytest.raises(OptimizeError, match=r"no linear layer \(MatMul or Gemm by a constant matrix\).*choose"):
        _reduced(source)


def test_a_layer_to_keep_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match="no linear layer third"):
        _reduced(two_layers(tmp_path), keep=frozenset({"third"}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(value: float, tmp_path: Path) -> None:
    source = two_layers(tmp_path, down=np.where(DOWN.max() == DOWN, np.float32(value), DOWN))
    with pytest.raises(OptimizeError, match=r"weight down has values that are not finite: second: check the weights"):
        _reduced(source, calibration=CALIBRATION)


@pytest.mark.parametrize(
    "inputs", [{}, {"x": np.zeros((2, INPUTS + 1), np.float32)}, {"x": np.zeros((2, INPUTS), np.int64)}]
)
def test_calibration_data_that_does_not_fit_the_graph_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match=r"does not run on the calibration data.*all inputs of the graph"):
        _reduced(two_layers(tmp_path), calibration=[inputs])


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    source = tmp_path / MODEL_FILE
    source.write_text("weights", encoding="utf-8")
    with pytest.raises(OptimizeError, match="not a graph that can be read"):
        _reduced(source)


def test_the_check_of_the_weights_reads_them_and_their_smoothing(tmp_path: Path) -> None:
    source = two_layers(tmp_path, up=UP / OUTLIER[:, None])
    out = _reduced(source, calibration=[{"x": inputs["x"] * OUTLIER} for inputs in CALIBRATION])
    first, second = quantized_tensors(out, {})
    assert first.smoothing is not None
    assert second.smoothing is None
    grids = (first.read().times(first.smoothing[1]), second.read())
    for grid, matrix in zip(grids, (UP / OUTLIER[:, None], DOWN.T), strict=True):
        assert (np.abs(grid.values - matrix) <= 0.501 * grid.steps).all()


def test_what_is_written_is_a_graph_that_onnx_takes(tmp_path: Path) -> None:
    onnx.checker.check_model(str(_reduced(two_layers(tmp_path))))
