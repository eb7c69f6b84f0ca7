"""Candidates: ways to optimize a graph, one module each. What they emit is trusted only after it loaded and matched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

CANDIDATES: dict[str, str] = {
    "none": "modelbuild.candidates.unchanged",
    "basic": "modelbuild.candidates.ort_level",
    "extended": "modelbuild.candidates.ort_level",
    "transformer": "modelbuild.candidates.transformer",
}


class Candidate(Protocol):
    """What a candidate module has: `optimize` reads the model in `source` and writes its own into the empty folder
    `out`.

    `kind` is the optimization that was asked for, `facts` is what export reported. Nothing in `source` is changed.
    Raises OptimizeError when the graph cannot be optimized so.
    """

    def optimize(self, kind: str, source: Path, facts: Mapping[str, Any], out: Path) -> None: ...
