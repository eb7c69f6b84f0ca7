"""Transformer fusions: embeddings, attention, layer normalization and GELU become one operator each.

Which optimizer finds the patterns depends on the exporter: onnxscript's for dynamo's graphs, whose exporter says
of nodes which module they come from, ONNX Runtime's for TorchScript's, whose exporter does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.candidates import ort_level
from modelbuild.errors import OptimizeError, first_line
from modelbuild.hierarchy import Hierarchy


def fusions(kind: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the fusions for graphs of the exporter, and of what ONNX Runtime does after them."""
    if Hierarchy.of_facts(facts["hierarchy"]).tagged_by_exporter:
        from modelbuild.fusions import dynamo

        return (*dynamo.FUSIONS, *ort_level.fusions("extended", facts))
    from modelbuild.fusions import torchscript

    return (*torchscript.FUSIONS, *ort_level.fusions("extended", facts))


def optimize(
    kind: str,
    source: Path,
    facts: Mapping[str, Any],
    out: Path,
    without: frozenset[str] = frozenset(),
    custom_ops: Sequence[str] = (),
) -> None:
    """Fuse, then fold what the fusions left to fold, and save it at the portable level."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fused.") as scratch:
        fused = Path(scratch) / out.name
        try:
            _fuse(source, facts, fused, without)
        except Exception as error:
            raise OptimizeError(f"transformer fusion failed: {type(error).__name__}: {first_line(error)}") from error
        ort_level.save_optimized(fused, "extended", out, without, custom_ops)


def _fuse(model: Path, facts: Mapping[str, Any], fused: Path, without: frozenset[str]) -> None:
    if Hierarchy.of_facts(facts["hierarchy"]).tagged_by_exporter:
        from modelbuild.fusions import dynamo

        dynamo.fuse(model, fused, without)
    else:
        from modelbuild.fusions import torchscript

        torchscript.fuse(model, facts["architecture"], fused, without)
