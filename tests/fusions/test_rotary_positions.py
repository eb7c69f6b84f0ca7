"""ONNX Runtime's RotaryEmbedding takes more tokens than there are positions, and one row of positions for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelbuild.fusions.rotary_positions import expand_rotary_positions, lengthen_rotary_tables

X = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)


def _model(rows: int | str) -> ir.Model:
    """A RotaryEmbedding with a table up to the largest position, as onnxscript makes it."""
    nodes = [
        helper.make_node("ReduceMax", ["positions"], ["largest"], keepdims=0),
        helper.make_node("Add", ["largest", "one"], ["count"]),
        helper.make_node("Range", ["zero", "count", "one"], ["range"]),
        helper.make_node("Reshape", ["range", "column"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "frequencies"], ["angles"]),
        helper.make_node("Cos", ["angles"], ["cos"]),
        helper.make_node("Sin", ["angles"], ["sin"]),
        helper.make_node("RotaryEmbedding", ["x", "positions", "cos", "sin"], ["y"], domain="com.microsoft"),
    ]
    constants = {
        "zero": np.array(0), "one": np.array(1), "column": np.array([-1, 1]),
        "frequencies": np.array([[1.0, 0.5, 0.25, 0.125]], dtype=np.float32),
    }  # fmt: skip
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 8]),
                helper.make_tensor_value_info("positions", TensorProto.INT64, [rows, "sequence"]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 8])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def _run(model: ir.Model, positions: list[list[int]], folder: Path) -> np.ndarray:
    ir.save(model, folder / "graph.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(folder / "graph.onnx"), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X, "positions": np.array(positions)})[0])


def test_tokens_of_padding_need_rows_of_the_table_too(tmp_path: Path) -> None:
    model, padded, counted = _model("batch"), [[0, 0, 0], [0, 0, 1]], [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(Exception, match="cos_cache"):
        _run(model, padded, tmp_path)
    before = _run(model, counted, tmp_path)
    assert lengthen_rotary_tables(model) == 1
    np.testing.assert_array_equal(_run(model, counted, tmp_path), before)
    np.testing.assert_array_equal(_run(model, padded, tmp_path)[:, 0], X[:, 0])
    assert lengthen_rotary_tables(model) == 0


def test_a_row_of_positions_for_all_becomes_one_for_each(tmp_path: Path) -> None:
    model = _model(1)
    assert expand_rotary_positions(model) == 1
    each = _run(_model("batch"), [[0, 1, 2], [0, 1, 2]], tmp_path)
    np.testing.assert_array_equal(_run(model, [[0, 1, 2]], tmp_path), each)
