"""Graphs of a few nodes that are compared: whole numbers, and sizes that a graph was exported for."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from modelbuild.graph import read_graph
from modelbuild.graph_match import match, wanted
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.report import Check

FLOAT, BOOL, INT32 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT32
AXES = (Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length"))


def graph(
    path: Path, operator: str, shape: tuple[int | str, ...], kind: int, to: int, operands: tuple[str, ...] = ("x", "x")
) -> Path:
    """A file with `y = to(operator(x, x))`."""
    nodes = [helper.make_node(operator, operands, ["z"]), helper.make_node("Cast", ["z"], ["y"], to=to)]
    value, result = (helper.make_tensor_value_info(*of) for of in (("x", kind, shape), ("y", to, shape)))
    made = helper.make_model(
        helper.make_graph(nodes, "g", [value], [result]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    onnx.save(made, path)
    return path


def compared(first: Path, second: Path, shape: tuple[int | str, ...], dtype: str) -> Check:
    interface = Interface(
        inputs=(Input(name="x", dtype="float32", shape=shape),),
        outputs=(Output(name="y", shape=shape, dtype=dtype),),
        axes=AXES,
    )
    return match(wanted(first, read_graph(first).signature, interface), second)


@pytest.mark.parametrize(("to", "dtype"), [(BOOL, "bool"), (INT32, "int32")])
def test_whole_numbers_that_are_all_zero_are_compared(to: int, dtype: str, tmp_path: Path) -> None:
    shape = ("batch", "sequence")
    zeros = graph(tmp_path / "zeros.onnx", "Sub", shape, FLOAT, to)
    assert compared(zeros, zeros, shape, dtype).passed
    others = graph(tmp_path / "others.onnx", "Equal", shape, FLOAT, to)
    assert not compared(zeros, others, shape, dtype).passed


@pytest.mark.parametrize(
    ("shape", "fixed"),
    [
        (("batch", 8, "sequence"), ("batch", 8, 5)),
        ((2, "batch", "sequence"), (2, 4, "sequence")),
        (("sequence", "batch"), (6, 2)),
    ],
)
def test_a_graph_with_fixed_sizes_is_run_at_them_wherever_they_are(
    shape: tuple[int | str, ...], fixed: tuple[int | str, ...], tmp_path: Path
) -> None:
    made = graph(tmp_path / "fixed.onnx", "Add", fixed, FLOAT, FLOAT)
    assert compared(made, made, shape, "float32").passed
