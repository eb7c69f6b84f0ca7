from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import CONFIG, export_tiny, tiny_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the export stage for a tiny BERT, by dynamo at opset 20."""
    return export_tiny(tiny_model("BertModel", CONFIG), tmp_path_factory.mktemp("export"))
