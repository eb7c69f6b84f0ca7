"""Transformer fusions: attention, layer normalization and GELU become one operator each.

Which optimizer finds the patterns depends on the exporter: onnxscript's for dynamo's graphs, whose nodes say which
module they come from, ONNX Runtime's for TorchScript's, whose nodes do not. The attention mask is used as it is. ONNX
Runtime's default for BERT counts on right padding, and gives wrong numbers for any other
(microsoft/onnxruntime#18945).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from modelbuild.candidates.ort_level import save_optimized
from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, WEIGHTS_FILE

# Families whose patterns ONNX Runtime's optimizer files under another name.
_MODEL_TYPES = {"distilbert": "bert", "roberta": "bert", "bert": "bert", "electra": "bert", "mpnet": "bert"}


def optimize(kind: str, source: Path, facts: Mapping[str, Any], out: Path) -> None:
    """Fuse, then fold what the fusions left to fold, and save it at the portable level."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".fused.") as scratch:
        fused = Path(scratch) / MODEL_FILE
        try:
            if facts["hierarchy"]["tagged_nodes"]:
                _fuse_with_onnxscript(source / MODEL_FILE, fused)
            else:
                _fuse_with_onnxruntime(source / MODEL_FILE, facts["architecture"], fused)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise OptimizeError(
                f"transformer fusion failed: {type(error).__name__}: {first}", hint="choose optimization=extended"
            ) from error
        save_optimized(fused, "extended", out)


def _fuse_with_onnxscript(model: Path, fused: Path) -> None:
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    graph, _ = optimize_for_ort(ir.load(model))
    ir.save(graph, fused, external_data=WEIGHTS_FILE)


def _fuse_with_onnxruntime(model: Path, architecture: Mapping[str, Any], fused: Path) -> None:
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    model_type = _MODEL_TYPES.get(architecture["model_type"])
    if model_type is None:
        raise OptimizeError(f"ONNX Runtime's optimizer has no patterns for {architecture['model_type']}")
    options = FusionOptions(model_type)
    options.use_raw_attention_mask(True)
    optimized = optimize_model(
        str(model),
        model_type=model_type,
        num_heads=architecture["num_attention_heads"] or 0,
        hidden_size=architecture["hidden_size"] or 0,
        optimization_options=options,
        opt_level=0,
        use_gpu=False,
    )
    optimized.save_model_to_file(str(fused), use_external_data_format=True)
