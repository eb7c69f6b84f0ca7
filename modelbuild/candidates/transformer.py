"""Transformer fusions: embeddings, attention, layer normalization and GELU become one operator each.

Which optimizer finds the patterns depends on the exporter: onnxscript's for dynamo's graphs, whose exporter says
of nodes which module they come from, ONNX Runtime's for TorchScript's, whose exporter does not. `ort_transformer` is
ONNX Runtime's for either.

Attention is fused to one of two operators. Attention has its linear layers inside, with their weights packed;
MultiHeadAttention leaves them outside, where they can be quantized.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.candidates import ort_level
from modelbuild.errors import OptimizeError, first_line
from modelbuild.hierarchy import Hierarchy

_MULTI_HEAD = "multi_head_attention"


def fusions(kind: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the fusions for graphs of the exporter, and of what ONNX Runtime does after them."""
    if _is_dynamos(kind, facts):
        from modelbuild.fusions import dynamo

        packed = {"attention", "attention_mask"} if kind == _MULTI_HEAD else set()
        return (*(name for name in dynamo.FUSIONS if name not in packed), *ort_level.fusions("extended", facts))
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
            _fuse(kind, source, facts, fused, without)
        except Exception as error:
            raise OptimizeError(f"transformer fusion failed: {type(error).__name__}: {first_line(error)}") from error
        ort_level.save_optimized(fused, "extended", out, without, custom_ops)


def _is_dynamos(kind: str, facts: Mapping[str, Any]) -> bool:
    return kind != "ort_transformer" and Hierarchy.of_facts(facts["hierarchy"]).tagged_by_exporter


def _fuse(kind: str, model: Path, facts: Mapping[str, Any], fused: Path, without: frozenset[str]) -> None:
    if _is_dynamos(kind, facts):
        from modelbuild.fusions import dynamo

        packed = frozenset({"attention"}) if kind == _MULTI_HEAD else frozenset()
        dynamo.fuse(model, fused, without | packed)
    else:
        from modelbuild.fusions import torchscript

        torchscript.fuse(model, facts["architecture"], fused, without, multi_head=kind == _MULTI_HEAD)
