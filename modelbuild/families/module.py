"""A torch module of the user's own: whatever it takes, one graph."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch

from modelbuild.component import Component, Named, Tensors
from modelbuild.errors import ExportError
from modelbuild.families.module_axes import declared_interface, with_outputs
from modelbuild.families.module_outputs import flattened
from modelbuild.module_loading import UserModule
from modelbuild.suggest import did_you_mean
from modelbuild.tasks import Task

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class CustomModel(Named):
    """A user's module, called with its inputs by name or, where forward has no names for them, in their order."""

    def __init__(self, model: torch.nn.Module, *, by_name: bool, outputs: tuple[str, ...]) -> None:
        super().__init__(model)
        self.by_name = by_name
        self.outputs = outputs

    def forward(self, inputs: Tensors) -> Tensors:
        """What the module gives, flat and by name."""
        result = self.model(**inputs) if self.by_name else self.model(*inputs.values())
        return flattened(result, self.outputs, type(self.model).__name__)


def components(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """One graph, `model.onnx`. Raises ExportError when forward does not take the declared inputs, or fails on them."""
    if not isinstance(model, UserModule):
        raise ExportError(
            f"task={task.name} is for modules of your own", where=type(model).__name__, hint="choose another task"
        )
    declared = model.files.declared
    module = CustomModel(
        model.model, by_name=_by_name(model.model, model.inputs), outputs=tuple(declared.outputs)
    ).eval()
    taken = declared_interface(model.inputs, declared.axes)
    interface = with_outputs(module, taken, model.folder)
    layers = sum(isinstance(part, torch.nn.MultiheadAttention) for part in model.modules())
    return (Component(name="model", file="model.onnx", module=module, interface=interface, attention_layers=layers),)


def _by_name(model: torch.nn.Module, inputs: Mapping[str, object]) -> bool:
    """Whether forward takes the inputs by name. Raises ExportError when it takes other ones."""
    parameters = inspect.signature(model.forward).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    named = [name for name, parameter in parameters.items() if parameter.kind in _BY_NAME]
    needed = [name for name in named if parameters[name].default is inspect.Parameter.empty]
    unknown = [name for name in inputs if name not in named]
    if unknown and any(kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY) for kind in kinds):
        return False
    lacking = [name for name in needed if name not in inputs]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise ExportError(
            f"forward of {type(model).__name__} takes no '{unknown[0]}'",
            where="model.source.inputs",
            hint=did_you_mean(unknown[0], lacking or named) or f"it takes {', '.join(named)}",
        )
    if lacking:
        raise ExportError(
            f"forward of {type(model).__name__} also needs {', '.join(lacking)}",
            where="model.source.inputs",
            hint="declare it, or give the parameter a default",
        )
    return True
