"""Tiny models with seeded weights, and their exports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from modelbuild.model_spec import InitSource
from modelbuild.report import write_report
from modelbuild.spec import Opset, PytorchExporter
from modelbuild.stage_spec import ExportSpec, StageModel
from modelbuild.stages import export

Config = dict[str, bool | int | float | str | None]
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
