"""Tiny models with seeded weights, and their exports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue

from modelbuild.component import Component
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.families.split import components_of
from modelbuild.graph import MODEL_FILE, data_file
from modelbuild.model_spec import InitSource
from modelbuild.report import write_report
from modelbuild.samples import Batch, sample
from modelbuild.sizes import typical_sizes
from modelbuild.spec import Opset
from modelbuild.stage_spec import ExportSpec, StageModel
from modelbuild.stages import export
from modelbuild.tasks import Task

WEIGHTS_FILE = data_file(MODEL_FILE)
Config = dict[str, JsonValue]
CONFIG: Config = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
}


def tiny_model(architecture: str, config: Config) -> StageModel:
    """A model as a stage sees it."""
    return StageModel(source=InitSource(kind="init", architecture=architecture, config=config))


def export_tiny(
    model: StageModel, out: Path, *, exporter: Literal["dynamo", "optimum"] = "dynamo", opset: Literal[18, 20] = 20
) -> Path:
    """The output folder of the export stage for a model, with its report."""
    out.mkdir(exist_ok=True)
    spec = ExportSpec(
        model=model, task="feature-extraction", opset=Opset(version=opset), exporter=PytorchExporter(kind=exporter)
    )
    write_report(export.run(spec, {}, out), out / "report.json")
    return out


def only_component(model: torch.nn.Module, task: Task) -> Component:
    """The one graph that a model becomes."""
    (component,) = components_of(model, task)
    return component


def random_batch(component: Component, *, batch: int, sequence: int, mask: str, seed: int = 0) -> Batch:
    """Random tokens under a mask of that kind."""
    sizes = typical_sizes(component.interface, batch=batch, length=sequence)
    return sample(component.interface, sizes, mask=mask, rng=np.random.default_rng(seed))
