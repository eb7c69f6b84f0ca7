"""A tiny BERT, and its export, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelbuild.report import write_report
from modelbuild.spec import InitSource, Opset, PytorchExporter
from modelbuild.stage_spec import ExportSpec, StageModel
from modelbuild.stages import export

CONFIG: dict[str, bool | int | float | str | None] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
}


@pytest.fixture(scope="session")
def tiny() -> StageModel:
    """A one-layer BERT with seeded weights."""
    return StageModel(source=InitSource(kind="init", architecture="BertModel", config=CONFIG))


@pytest.fixture(scope="session")
def exported(tiny: StageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the export stage for it, by dynamo at opset 20."""
    out = tmp_path_factory.mktemp("export")
    exporter = PytorchExporter(kind="dynamo")
    spec = ExportSpec(model=tiny, task="feature-extraction", opset=Opset(version=20), exporter=exporter)
    write_report(export.run(spec, {}, out), out / "report.json")
    return out
