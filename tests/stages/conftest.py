"""A tiny BERT, and its exports, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import CONFIG, export_tiny, tiny_model

from modelbuild.stage_spec import StageModel


@pytest.fixture(scope="session")
def tiny() -> StageModel:
    """A one-layer BERT with seeded weights."""
    return tiny_model("BertModel", CONFIG)


@pytest.fixture(scope="session")
def exported(tiny: StageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the export stage for it, by dynamo at opset 20."""
    return export_tiny(tiny, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def exported_by_optimum(tiny: StageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by Optimum's exporter at opset 18."""
    return export_tiny(tiny, tmp_path_factory.mktemp("export_by_optimum"), exporter="optimum", opset=18)
