"""Sizes that an exported program holds for: those that nobody knows are not taken for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modelbuild.component import Component, Named, Tensors
from modelbuild.errors import ExportError
from modelbuild.exporters import dynamo
from modelbuild.graph import MODEL_FILE
from modelbuild.interface import Axis, AxisKind, Input, Interface, Output
from modelbuild.samples import Batch
from modelbuild.tasks import TASKS


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


class Written(Named):
    def forward(self, inputs: Tensors) -> Tensors:
        doubled = inputs["x"] * 2
        doubled[:, 0] += 1
        return {"y": doubled}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "traces", "said"),
    [(Twice, 1, ""), (Written, 2, "model: traced a second time, to replace aten.add_.Tensor\n")],
)
def test_a_second_trace_is_in_the_report_and_its_reason_in_the_log(
    module: type[Named], traces: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = replace(component("length"), module=module(torch.nn.Module()).eval())
    traced = Batch(kind="random", interface=taken.interface, inputs={"x": np.ones((3, 4), np.float32)})
    facts = dynamo.export(taken, TASKS["custom"], traced, 20, None, tmp_path / MODEL_FILE)
    assert facts == {"traces": traces}
    assert capsys.readouterr().out == said


def test_transposed_weights_are_put_in_order_as_they_are_written() -> None:
    stored = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = dynamo._in_order(ir.Tensor(stored.T, name="weight"))
    assert isinstance(tensor, ir.LazyTensor)
    assert (tensor.name, tensor.dtype, list(tensor.shape)) == ("weight", ir.DataType.FLOAT, [3, 2])
    assert tensor.tobytes() == np.ascontiguousarray(stored.T).tobytes()
    plain = ir.Tensor(stored)
    assert dynamo._in_order(plain) is plain
    assert dynamo._in_order(None) is None
