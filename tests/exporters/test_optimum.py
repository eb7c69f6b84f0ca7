"""Optimum's exporter: what it took for itself is refused with the model's name."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modelbuild.errors import ExportError
from modelbuild.exporters import optimum


def test_inputs_that_were_not_asked_for_are_refused_with_the_model_and_what_to_do() -> None:
    graph = ir.Model(ir.Graph([ir.Value(name="pixels")], [], nodes=[], opset_imports={"": 18}), ir_version=10)
    with pytest.raises(ExportError) as caught:
        optimum._order_inputs(graph, ["input_ids"], "BertModel")
    assert caught.value.lines() == [
        "error[EXP]: Optimum's graph takes pixels: BertModel: it should take input_ids; try exporter=dynamo"
    ]
