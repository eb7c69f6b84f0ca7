"""What a check may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from modelbuild.component import Component
from modelbuild.graph import GraphFacts
from modelbuild.interface import Interface
from modelbuild.runtime.session import SessionSettings
from modelbuild.stage_spec import ValidateSpec
from modelbuild.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A graph that is to ship, and the part of the original that it must equal.

    `model_file` is the ONNX file that ships and `graph` what it says; `exported_file` is the one it was optimized from,
    and `exported_facts` what export reported of it. `limits` are the largest sizes of axes that ship with it, and
    `steps` what sizes must be multiples of; `custom_ops` are the libraries of its custom operators on this machine.
    `sidecar` is the folder of config and tokenizer, `source` that of the original's files (None for a model that has
    none). `component` is the graph in PyTorch, in eval mode and fp32, and `reference` the whole original that it is
    part of.
    """

    spec: ValidateSpec
    task: Task
    model_file: Path
    exported_file: Path
    exported_facts: Mapping[str, Any]
    graph: GraphFacts
    sidecar: Path
    source: Path | None
    reference: torch.nn.Module
    component: Component
    limits: Mapping[str, int]
    custom_ops: tuple[str, ...] = ()
    steps: Mapping[str, int] = field(default_factory=dict)

    def settings(self) -> SessionSettings:
        """The session settings that the file ships with."""
        return SessionSettings.from_mapping(self.spec.session.settings() | {"custom_ops": self.custom_ops})

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer that ships."""
        return self.sidecar / self.task.tokenizer_folder

    @property
    def original_tokenizer(self) -> Path | None:
        """The folder of the original's tokenizer, None for a model that has no files."""
        return self.source / self.task.tokenizer_folder if self.source else None

    @property
    def interface(self) -> Interface:
        """What the graph takes and gives."""
        return self.component.interface
