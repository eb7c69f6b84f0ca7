"""Sizes that an exported program holds for: those that nobody knows are not taken for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modelbuild.component import Component, Named, Tensors
from modelbuild.errors import ExportError
from modelbuild.exporters import dynamo
from modelbuild.graph import MODEL_FILE
from modelbuild.interface import Axis, AxisKind, Input, Interface, Output


class Twice(Named):
    def forward(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * 2}


def component(kind: AxisKind) -> Component:
    axes = (Axis(name="batch", kind="batch"), Axis(name="sequence", kind=kind))
    shape = ("batch", "sequence")
    interface = Interface(
        inputs=(Input(name="x", dtype="float32", shape=shape),), outputs=(Output(name="y", shape=shape),), axes=axes
    )
    return Component(name="model", file=MODEL_FILE, module=Twice(torch.nn.Module()).eval(), interface=interface)


def program(taken: Component, second: Any) -> torch.export.ExportedProgram:
    shapes = {"inputs": {"x": {0: torch.export.Dim("batch"), 1: second}}}
    return torch.export.export(taken.module, (), {"inputs": {"x": torch.ones(3, 4)}}, dynamic_shapes=shapes)


@pytest.mark.slow
def test_a_size_that_nothing_is_known_of_is_refused_unless_it_is_a_sum() -> None:
    taken = component("length")
    made = program(taken, torch.export.Dim("sequence"))
    size = next(node.meta["val"] for node in made.graph.nodes if node.op == "placeholder").shape[1]
    del made.range_constraints[size.node.expr]
    with pytest.raises(
        ExportError, match=r"^the sizes of sequence that it holds for are not known: it is s\d+: Twice: "
    ):
        dynamo._require_all_sizes("Twice", made, taken)
    dynamo._require_all_sizes("Twice", made, component("sum"))


def test_a_size_of_its_own_is_known() -> None:
    taken = component("length")
    dynamo._require_all_sizes("Twice", program(taken, torch.export.Dim("sequence")), taken)


def test_an_axis_without_a_limit_must_hold_for_what_is_tried() -> None:
    taken = component("length")
    with pytest.raises(ExportError, match="the model branches on sequence: what was exported holds for 0 to 99 only"):
        dynamo._require_all_sizes("Twice", program(taken, torch.export.Dim("sequence", max=99)), taken)
