"""What a check may look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from modelbuild.graph import GraphFacts
from modelbuild.samples import Limits
from modelbuild.stage_spec import ValidateSpec
from modelbuild.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that is to ship, and the original it must equal.

    `model_file` is the ONNX file that ships and `graph` what it says; `exported_file` is the one it was optimized from.
    `sidecar` is the folder of config and tokenizer, `source` that of the original's files (None for a model that has
    none). `reference` is the original in PyTorch, in eval mode and fp32; `names` are its inputs, in order.
    """

    spec: ValidateSpec
    task: Task
    model_file: Path
    exported_file: Path
    graph: GraphFacts
    sidecar: Path
    source: Path | None
    reference: torch.nn.Module
    names: tuple[str, ...]
    limits: Limits
