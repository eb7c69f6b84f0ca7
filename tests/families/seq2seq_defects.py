"""What can be wrong in the graphs of an encoder and a decoder, planted in graphs that are right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelbuild.graph import data_file

Defect = Callable[[ir.Model], None]


def swap_cross_attention(model: ir.Model) -> None:
    """The first layer takes the keys of what the encoder gave for its values, and the values for the keys."""
    key, value = (_input(model, f"past_key_values.0.encoder.{name}") for name in ("key", "value"))
    uses = [(use, value) for use in key.uses()] + [(use, key) for use in value.uses()]
    for (node, place), other in uses:
        node.replace_input_with(place, other)


def ignore_mask(model: ir.Model) -> None:
    """What the encoder made of padding is looked at."""
    mask = _input(model, "encoder_attention_mask")
    uses = list(mask.uses())
    shape = ir.node("Shape", [mask])
    ones = ir.node("ConstantOfShape", shape.outputs, {"value": ir.tensor(np.array([1], dtype=np.int64))})
    model.graph.insert_before(model.graph[0], [shape, ones])
    for node, place in uses:
        node.replace_input_with(place, ones.outputs[0])


def forget_new_tokens(model: ir.Model) -> None:
    """Keys and values come back as they were given."""
    for number, right in enumerate(list(model.graph.outputs)):
        name = str(right.name)
        if not name.startswith("present."):
            continue
        node = ir.node("Identity", [_input(model, name.replace("present.", "past_key_values."))])
        node.outputs[0].shape, node.outputs[0].type = right.shape, right.type
        right.name, node.outputs[0].name = f"{name}_right", name
        model.graph.append(node)
        model.graph.outputs[number] = node.outputs[0]


def reverse_position_bias(model: ir.Model) -> None:
    """Tokens that are near count as tokens that are far."""
    (bias,) = (value for name, value in model.graph.initializers.items() if "relative_attention_bias" in name)
    assert bias.const_value is not None
    bias.const_value = ir.tensor(np.ascontiguousarray(bias.const_value.numpy()[::-1]), name=bias.name)


def planted(right: Path, graph: str, defect: Defect, out: Path) -> Path:
    """A copy of the stage output `right`, in `out`, with a defect in one graph."""
    shutil.copytree(right, out)
    path = out / f"{graph}.onnx"
    model = ir.load(right / path.name)
    defect(model)
    path.unlink()
    data = out / data_file(path.name)
    data.unlink(missing_ok=True)
    ir.save(model, path, external_data=data.name)
    return out


def _input(model: ir.Model, name: str) -> ir.Value:
    return next(value for value in model.graph.inputs if value.name == name)
