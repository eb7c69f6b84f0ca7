"""Families: kinds of models, one module each. A family says which graphs a model becomes, and what they take and give.

`tasks` says which family does a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from modelbuild.component import Component
    from modelbuild.tasks import FamilyName, Task

FAMILIES: dict[FamilyName, str] = {
    "image": "modelbuild.families.image",
    "text": "modelbuild.families.text",
}


class Family(Protocol):
    """What a family module has: `components` gives the graphs that `model`, which is for `task`, becomes, in the order
    in which they run. Raises ExportError when the model is of another family.
    """

    def components(self, model: torch.nn.Module, task: Task) -> tuple[Component, ...]: ...
