"""Sizes that a model does not take: every axis that has a limit is tried beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from checks.plain_graphs import plain_runs
from onnx import helper

from modelbuild.checks.bounds import examine
from modelbuild.component import Tensors
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.report import Check

ROWS, POSITIONS = Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length", largest=4)
TABLE = torch.arange(4.0)


def interface(*axes: Axis) -> Interface:
    shape = tuple(axis.name for axis in axes)
    value = Input(name="x", dtype="float32", shape=shape)
    return Interface(inputs=(value,), outputs=(Output(name="y", shape=shape),), axes=axes)


def twice(inputs: Tensors) -> Tensors:
    return {"y": inputs["x"] + inputs["x"]}


def with_positions(inputs: Tensors) -> Tensors:
    """What fails beyond four positions."""
    return {"y": inputs["x"] + TABLE[torch.arange(inputs["x"].shape[1])]}


TWICE = (helper.make_node("Add", ["x", "x"], ["y"]),)


def checks(folder: Path, taken: Interface, limits: Mapping[str, int] | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(plain_runs(folder, taken, twice, TWICE, limits=limits))}


def test_one_limit_is_one_check(tmp_path: Path) -> None:
    found = checks(tmp_path, interface(ROWS, POSITIONS))
    assert [(check.name, check.compared) for check in found.values()] == [
        ("beyond maximum", "5 positions, where the model takes 4")
    ]
    assert found["beyond maximum"].passed


def test_every_axis_with_a_limit_is_tried(tmp_path: Path) -> None:
    axes = (Axis(name="batch", kind="batch", largest=8), POSITIONS, Axis(name="frames", kind="length", largest=6))
    found = checks(tmp_path, interface(*axes))
    assert list(found) == ["beyond maximum sequence", "beyond maximum frames", "beyond maximum batch"]
    assert found["beyond maximum batch"].compared == "9 rows, where the model takes 8"
    assert all(check.passed for check in found.values())


def test_a_limit_that_does_not_ship_is_found_on_any_axis(tmp_path: Path) -> None:
    axes = (Axis(name="batch", kind="batch", largest=8), POSITIONS, Axis(name="frames", kind="length", largest=6))
    for name in ("batch", "sequence", "frames"):
        taken = interface(*axes)
        shipped = {axis: size for axis, size in taken.limits().items() if axis != name}
        found = checks(tmp_path, taken, shipped)
        assert [check.name for check in found.values() if not check.passed] == [f"beyond maximum {name}"]
        assert found[f"beyond maximum {name}"].where == "the runtime lets it through, its limit is None"


def test_a_graph_that_computes_what_pytorch_refuses_is_found(tmp_path: Path) -> None:
    clipped = (
        helper.make_node("Shape", ["x"], ["length"], start=1),
        helper.make_node("Squeeze", ["length"], ["limit"]),
        helper.make_node("Range", ["zero", "limit", "one"], ["positions"]),
        helper.make_node("Clip", ["positions", "", "last"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["rows"]),
        helper.make_node("Add", ["x", "rows"], ["y"]),
    )
    weights = {"zero": 0, "one": 1, "last": 3, "table": TABLE.numpy().astype(np.float32)}
    runs = plain_runs(tmp_path, interface(ROWS, POSITIONS), with_positions, clipped, weights=weights)
    (check,) = examine(runs)
    assert not check.passed
    assert check.where == "PyTorch refuses it, and the graph computes something"


def test_a_part_is_left_out_where_its_sum_has_the_same_limit(tmp_path: Path) -> None:
    total = Axis(name="total", kind="sum", largest=4, parts=("past", "sequence"))
    past = Axis(name="past", kind="past", smallest=0, largest=3)
    for largest, names in ((4, ["beyond maximum"]), (3, ["beyond maximum total", "beyond maximum sequence"])):
        axes = (ROWS, Axis(name="sequence", kind="length", largest=largest), past, total)
        shapes = {"x": ("batch", "sequence"), "cache": ("batch", "past"), "mask": ("batch", "total")}
        taken = Interface(
            inputs=tuple(Input(name=name, dtype="float32", shape=shape) for name, shape in shapes.items()),
            outputs=(Output(name="y", shape=("batch", "sequence")),),
            axes=axes,
        )
        found = checks(tmp_path, taken)
        assert list(found) == names
        assert all(check.passed for check in found.values())


def test_a_model_without_limits_is_not_tried(tmp_path: Path) -> None:
    assert not checks(tmp_path, interface(ROWS, Axis(name="sequence", kind="length")))
