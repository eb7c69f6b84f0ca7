"""16 bits: near where the CPU runs it, whole in its types where it does not, and fp32 where 16 bits are too few."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
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
from modelbuild.precision_spec import HalfPrecision
from modelbuild.precisions import half

Kind = Literal["fp16", "bf16"]
DTYPES: dict[str, Any] = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
SMALL = UP[:, :OUTPUTS].copy()


def _precision(kind: Kind) -> HalfPrecision:
    return HalfPrecision(kind=kind, min_cosine=0, min_top_1=0)


def _reduced(source: Path, kind: Kind = "fp16", keep: frozenset[str] = frozenset()) -> Path:
    out = source.parent / f"{kind}-{len(list(source.parent.iterdir()))}"
    out.mkdir()
    half.reduce(source, out / MODEL_FILE, _precision(kind), keep=keep)
    return out / MODEL_FILE


def _in_fp32(model: Path) -> Path:
    """A graph in bf16 with bf16 called fp32, its weights as they were rounded: what a CPU can run of it."""
    proto = onnx.load(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    del proto.graph.value_info[:]
    onnx.save(proto, model.parent / "fp32.onnx")
    return model.parent / "fp32.onnx"


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_fp16_is_near_and_its_inputs_and_outputs_are_fp32(opset: int, tmp_path: Path) -> None:
    source = two_layers(tmp_path, opset=opset)
    out = _reduced(source)
    assert read_graph(out).signature == read_graph(source).signature
    assert read_graph(out).opsets[""] == opset
    assert 0 < distance(source, out, some()) < 0.01
    assert half.layers(source, _precision("fp16")) == ("first", "second")


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_weights_are_the_originals_rounded_to_the_nearest_and_the_types_of_the_graph_fit(
    kind: Kind, tmp_path: Path
) -> None:
    out = _reduced(two_layers(tmp_path), kind)
    found = tensors(out)
    assert found["up"].dtype == DTYPES[kind]
    assert np.array_equal(found["up"], UP.astype(DTYPES[kind]))
    assert np.array_equal(found["down"], DOWN.astype(DTYPES[kind]))
    onnx.checker.check_model(str(out), full_check=True)
    assert operators(out) == ["Cast", "MatMul", "Add", "Relu", "Gemm", "Cast"]


def test_bf16_computes_the_same_with_rounded_weights(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    assert 0 < distance(source, _in_fp32(_reduced(source, "bf16")), some()) < 0.03


def test_what_is_kept_is_in_fp32_to_the_bit(tmp_path: Path) -> None:
    out = _reduced(two_layers(tmp_path), keep=frozenset({"second"}))
    assert np.array_equal(tensors(out)["down"], DOWN)
    assert tensors(out)["up"].dtype == np.float16
    onnx.checker.check_model(str(out), full_check=True)


def test_tags_stay_and_casts_have_them_too_and_files_are_the_same_each_time(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    first, second = _reduced(source), _reduced(source)
    tags = [read_tag(node) for node in onnx.load(first).graph.node]
    assert [tag.module if tag else None for tag in tags] == ["up", "up", "up", "", "down", "down"]
    for name in (MODEL_FILE, data_file(MODEL_FILE)):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def _with(values: Any, index: Any, value: float) -> Any:
    copy = values.copy()
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (
            "fp16",
            65520,
            r"the weight up has 1 values beyond the range of float16: 65520.0 is one: choose precision=bf16",
        ),
        ("fp16", -1e5, r"-100000.0 is one"),
        ("fp16", 1e38, r"the weight up has 1 values"),
        ("bf16", 3.4e38, r"beyond the range of bfloat16"),
    ],
)
def test_a_weight_beyond_the_range_is_named(kind: Kind, value: float, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match=message):
        _reduced(two_layers(tmp_path, up=_with(UP, (3, 7), value)), kind)


@pytest.mark.parametrize("value", [65504, 65519, -65519, 1e-9, np.inf])
def test_a_weight_within_the_range_is_not_refused(value: float, tmp_path: Path) -> None:
    out = _reduced(two_layers(tmp_path, up=_with(UP, (3, 7), value)))
    assert tensors(out)["up"][3, 7] == np.float16(value)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
@pytest.mark.parametrize("lowest", [np.finfo(np.float32).min, -1e9, -1e30])
def test_the_number_that_a_mask_adds_is_the_lowest_and_not_infinite(kind: Kind, lowest: float, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Where", ["seen", "scores", "lowest"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["y"], axis=-1),
    ]
    constants = {"w": SMALL, "lowest": np.float32(lowest), "seen": np.zeros((1, OUTPUTS), bool)}
    out = _reduced(graph_file(tmp_path, nodes, constants), kind)
    assert np.isfinite(tensors(out)["lowest"].astype(np.float32))
    shares = outputs_of(_in_fp32(out) if kind == "bf16" else out, some())
    assert np.allclose(shares, 1 / OUTPUTS, rtol=1e-3)


def test_a_mean_of_squares_does_not_leave_the_range(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Pow", ["hidden", "two"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[-1]),
        helper.make_node("Add", ["mean", "epsilon"], ["shifted"]),
        helper.make_node("Sqrt", ["shifted"], ["root"]),
        helper.make_node("Div", ["hidden", "root"], ["y"]),
    ]
    constants = {"w": SMALL * 500, "two": np.float32(2), "epsilon": np.float32(1e-6)}
    source = graph_file(tmp_path, nodes, constants, opset=17)
    out = _reduced(source)
    assert distance(source, out, some()) < 0.01
    assert operators(out).count("Cast") == 4  # in, to fp32, back, out: what is between means stays there


def test_positions_that_16_bits_cannot_tell_apart_stay_in_fp32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["positions"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "frequencies"], ["angles"]),
        helper.make_node("Sin", ["angles"], ["waves"]),
        helper.make_node("MatMul", ["waves", "w"], ["y"]),
    ]
    frequencies = (10000.0 ** -(np.arange(INPUTS) / INPUTS)).astype(np.float32)
    source = graph_file(
        tmp_path, nodes, {"frequencies": frequencies, "w": SMALL},
        inputs={"positions": ["batch", 1]}, kinds={"positions": TensorProto.INT64},
    )  # fmt: skip
    inputs = {"positions": np.array([[3], [2049], [4095], [30001]])}
    assert distance(source, _reduced(source), inputs) < 0.01


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_a_subgraph_is_in_16_bits_and_its_types_fit(kind: Kind, tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["batch", OUTPUTS])]
        )
        for name, node in {
            "then": helper.make_node("MatMul", ["x", "w"], ["one"], name="inside"),
            "else": helper.make_node("CumSum", ["small", "axis"], ["other"]),
        }.items()
    }
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axes"], ["small"]),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]
    for flag in (True, False):
        constants = {
            "w": SMALL, "flag": np.array(flag), "from": [0], "to": [OUTPUTS], "axes": [1], "axis": np.array(1),
        }  # fmt: skip
        source = graph_file(tmp_path / str(flag), nodes, constants)
        out = _reduced(source, kind)
        onnx.checker.check_model(str(out), full_check=True)
        if kind == "fp16":
            assert distance(source, out, some()) < 0.01


def test_an_output_that_nobody_reads_and_a_constant_that_is_made_have_their_types(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain"], ["normal", "mean"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("Mul", ["normal", "ones"], ["same"]),
        helper.make_node("MatMul", ["same", "w"], ["y"]),
    ]
    source = graph_file(tmp_path, nodes, {"gain": np.ones(INPUTS, np.float32), "w": SMALL})
    assert distance(source, _reduced(source), some()) < 0.01


def test_of_values_whose_type_the_file_does_not_say_onnxruntime_is_asked(tmp_path: Path) -> None:
    source = two_layers(tmp_path)
    proto = onnx.load(source, load_external_data=False)
    del proto.graph.value_info[:]
    source.write_bytes(proto.SerializeToString())
    assert distance(source, _reduced(source), some()) < 0.01


def test_a_graph_without_a_linear_layer_is_reduced_as_well(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Tanh", ["e"], ["y"])]
    source = graph_file(tmp_path, nodes, {}, outputs={"y": ["batch", INPUTS]})
    assert operators(_reduced(source)) == ["Cast", "Exp", "Tanh", "Cast"]


def test_a_layer_to_keep_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match="no linear layer third"):
        _reduced(two_layers(tmp_path / "two"), keep=frozenset({"third"}))
