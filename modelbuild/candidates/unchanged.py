"""The exported graph as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild.graph import MODEL_FILE, WEIGHTS_FILE


def fusions(kind: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """None: there is nothing to leave out."""
    return ()


def optimize(
    kind: str, source: Path, facts: Mapping[str, Any], out: Path, without: frozenset[str] = frozenset()
) -> None:
    """Copy the model. A hard link would do, but onnx refuses linked weights."""
    for name in (MODEL_FILE, WEIGHTS_FILE):
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
