"""What must not matter: the rows beside a row, for every output that has rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from checks.plain_graphs import plain_runs
from onnx import helper

from modelbuild.checks.invariance import examine
from modelbuild.component import Tensors
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.report import Check

# Two kinds of rows: each by itself, and all with all, as images and texts are compared.
PAIRS = Interface(
    inputs=(
        Input(name="a", dtype="float32", shape=("images", 4)),
        Input(name="b", dtype="float32", shape=("texts", 4)),
    ),
    outputs=(
        Output(name="scores", shape=("images", "texts")),
        Output(name="image", shape=("images",)),
        Output(name="text", shape=("texts",)),
    ),
    axes=(Axis(name="images", kind="batch"), Axis(name="texts", kind="batch")),
)
TURNED = helper.make_node("Transpose", ["b"], ["columns"])
SCORES = (TURNED, helper.make_node("MatMul", ["a", "columns"], ["scores"]))
ROWS = (helper.make_node("Neg", ["a"], ["image"]), helper.make_node("Neg", ["b"], ["text"]))
# The same as the module's for the batch as it is, and another thing for a row alone.
OF_ALL = (
    helper.make_node("Neg", ["a"], ["image"]),
    helper.make_node("Neg", ["b"], ["negative"]),
    helper.make_node("Shape", ["b"], ["count"], end=1),
    helper.make_node("Equal", ["count", "alone"], ["is_alone"]),
    helper.make_node("Where", ["is_alone", "b", "negative"], ["text"]),
)


def pairs(inputs: Tensors) -> Tensors:
    a, b = inputs["a"], inputs["b"]
    return {"scores": a @ b.T, "image": -a, "text": -b}


def examined(folder: Path, nodes: Sequence[onnx.NodeProto]) -> dict[str, Check]:
    return {check.name: check for check in examine(plain_runs(folder, PAIRS, pairs, nodes, weights={"alone": [1]}))}


def test_rows_are_compared_alone_beside_an_output_that_has_two_kinds_of_them(tmp_path: Path) -> None:
    check = examined(tmp_path, (*SCORES, *ROWS))["batch invariance"]
    assert check.passed
    assert check.compared == "each of 3 rows alone, and beside the others; not scores"


def test_a_row_that_knows_of_the_others_is_found_there(tmp_path: Path) -> None:
    found = examined(tmp_path, (*SCORES, *OF_ALL))
    assert [name for name, check in found.items() if not check.passed] == ["batch invariance"]
    assert found["batch invariance"].where.startswith("text, ")


def mean(inputs: Tensors) -> Tensors:
    return {"row": -inputs["x"], "loss": inputs["x"].mean()}


def test_rows_are_compared_beside_a_single_number(tmp_path: Path) -> None:
    alone = Interface(
        inputs=(Input(name="x", dtype="float32", shape=("batch", 4)),),
        outputs=(Output(name="row", shape=("batch",)), Output(name="loss", shape=())),
        axes=(Axis(name="batch", kind="batch"),),
    )
    nodes = (
        helper.make_node("Neg", ["x"], ["row"]),
        helper.make_node("ReduceMean", ["x"], ["loss"], keepdims=0),
    )
    found = {check.name: check for check in examine(plain_runs(tmp_path, alone, mean, nodes))}
    assert all(check.passed for check in found.values())
    assert found["batch invariance"].compared.endswith("; not loss")


def total(inputs: Tensors) -> Tensors:
    return {"loss": torch.relu(inputs["x"]).sum()}


def test_there_is_nothing_to_compare_where_no_output_has_rows(tmp_path: Path) -> None:
    alone = Interface(
        inputs=(Input(name="x", dtype="float32", shape=("batch", 4)),),
        outputs=(Output(name="loss", shape=()),),
        axes=(Axis(name="batch", kind="batch"),),
    )
    nodes = (helper.make_node("Relu", ["x"], ["some"]), helper.make_node("ReduceSum", ["some"], ["loss"], keepdims=0))
    names = [check.name for check in examine(plain_runs(tmp_path, alone, total, nodes))]
    assert names == ["deterministic", "thread invariance"]
