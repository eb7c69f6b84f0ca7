"""From a model to the graphs that it becomes."""

from __future__ import annotations

import importlib
from typing import cast

import torch

from modelbuild.component import Component
from modelbuild.families import FAMILIES, Family
from modelbuild.tasks import Task


def components_of(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """The graphs that `model` becomes for `task`, in the order in which they run.

    Raises ExportError when it is not a model of the task's family.
    """
    family = cast(Family, importlib.import_module(FAMILIES[task.family]))
    return family.components(model, task)
