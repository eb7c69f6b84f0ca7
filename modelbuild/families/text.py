"""Text in, one pass, one graph: encoders with any head."""

from __future__ import annotations

import inspect

import torch

from modelbuild.component import Component, OneCall
from modelbuild.errors import ExportError
from modelbuild.tasks import Task
from modelbuild.text_limits import limits_of, text_interface


def components(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """One graph, `model.onnx`."""
    names = _input_names(model, task)
    return (
        Component(
            name="model",
            file="model.onnx",
            module=OneCall(model, task.output_names()).eval(),
            interface=text_interface(task, names, limits_of(model.config)),
            attention_layers=_layers(model.config),
            unused_weights=task.unused_weights,
        ),
    )


def _input_names(model: torch.nn.Module, task: Task) -> tuple[str, ...]:
    """The inputs of `task` that this model's `forward` takes, in the task's order."""
    accepted = inspect.signature(model.forward).parameters
    if task.inputs[0] not in accepted:
        raise ExportError(
            f"{type(model).__name__} takes {next(iter(accepted))} and not {task.inputs[0]}",
            where=task.name,
            hint="choose a text model",
        )
    return tuple(name for name in task.inputs if name in accepted)


def _layers(config: object) -> int | None:
    """How many layers a forward pass goes through; None where the config does not say.

    ALBERT's groups share weights, and each has `inner_group_num` layers.
    """
    layers = getattr(config, "num_hidden_layers", None)
    return layers if layers is None else int(layers) * int(getattr(config, "inner_group_num", 1))
