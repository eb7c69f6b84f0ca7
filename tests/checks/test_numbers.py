"""Parity: an output that is compared nowhere has not passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checks.plain_graphs import plain_runs
from onnx import helper

from modelbuild.checks.numbers import compare_all
from modelbuild.component import Tensors
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.report import Check


def interface(between: tuple[float, float]) -> Interface:
    """Values under a mask whose numbers are between two."""
    shape = ("batch", "sequence")
    return Interface(
        inputs=(
            Input(name="x", dtype="float32", shape=shape),
            Input(name="mask", dtype="float32", shape=shape, content="attention_mask", between=between),
        ),
        outputs=(Output(name="y", shape=shape),),
        axes=(Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length", largest=4)),
    )


def masked(inputs: Tensors) -> Tensors:
    return {"y": inputs["x"] * inputs["mask"]}


MASKED = (helper.make_node("Mul", ["x", "mask"], ["y"]),)
TURNED = (helper.make_node("Mul", ["x", "mask"], ["xy"]), helper.make_node("Unsqueeze", ["xy", "first"], ["y"]))


def checks(folder: Path, between: tuple[float, float], nodes: Any = MASKED, **graph: Any) -> dict[str, Check]:
    runs = plain_runs(folder, interface(between), masked, nodes, **graph)
    return {check.name: check for check in compare_all(runs).checks}


def test_an_output_that_means_something_is_compared_in_every_batch(tmp_path: Path) -> None:
    found = checks(tmp_path, (1, 1))
    assert found["parity.y"].passed
    assert not found["parity.y"].compared.startswith("0 ")


def test_an_output_that_never_means_anything_has_not_passed(tmp_path: Path) -> None:
    check = checks(tmp_path, (0, 0))["parity.y"]
    assert not check.passed
    assert check.compared == "0 batches"
    assert check.where == "no batch had a valid value to compare"


@pytest.mark.parametrize("between", [(0, 0), (1, 1)])
def test_a_wrong_shape_is_seen_where_nothing_means_anything(tmp_path: Path, between: tuple[float, float]) -> None:
    check = checks(tmp_path, between, TURNED, weights={"first": [0]})["parity.y"]
    assert not check.passed
    assert "PyTorch" in check.where
