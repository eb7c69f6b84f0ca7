"""The exported graph as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.graph import data_file


def fusions(kind: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """None: there is nothing to leave out."""
    return ()


def optimize(
    kind: str,
    source: Path,
    facts: Mapping[str, Any],
    out: Path,
    without: frozenset[str] = frozenset(),
    custom_ops: Sequence[str] = (),
) -> None:
    """Copy the model. A hard link would do, but onnx refuses linked weights."""
    shutil.copyfile(source, out)
    data = data_file(source.name)
    if (source.parent / data).exists():
        shutil.copyfile(source.parent / data, out.parent / data)
