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
    "causal-lm": "modelbuild.families.causal_lm",
    "diffusion": "modelbuild.families.diffusion",
    "image": "modelbuild.families.image",
    "seq2seq": "modelbuild.families.seq2seq",
    "module": "modelbuild.families.module",
    "text": "modelbuild.families.text",
}

# Which exporters make the graphs of a family, where not all do: several graphs are dynamo's, and Optimum's exporter
# knows models of transformers alone, without their caches.
EXPORTED_BY: dict[FamilyName, tuple[str, ...]] = {
    "causal-lm": ("dynamo", "file"),
    "diffusion": ("dynamo",),
    "module": ("dynamo", "file"),
    "seq2seq": ("dynamo",),
}

# What else there is of a family, imported where it is wanted, for it needs libraries that others do without: how its
# originals are loaded, where that is not transformers' way, and the configs that it ships with.
ORIGINALS: dict[FamilyName, str] = {"diffusion": "modelbuild.diffusers_reference"}
CONFIGS: dict[FamilyName, str] = {"diffusion": "modelbuild.diffusers_configs"}


class Family(Protocol):
    """What a family module has: `components` gives the graphs that `model`, which is for `task`, becomes, in the order
    in which they run. Raises ExportError when the model is of another family.
    """

    def components(self, model: torch.nn.Module, task: Task) -> tuple[Component, ...]: ...
