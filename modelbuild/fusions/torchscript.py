"""Fusions for TorchScript's graphs: those of ONNX Runtime's optimizer in Python.

The attention mask is used as it is. The default for BERT counts on right padding, and gives wrong numbers for any other
(microsoft/onnxruntime#18945).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

# What FusionOptions can switch off, by its own names: `enable_attention` and so on.
FUSIONS = (
    "attention", "embed_layer_norm", "skip_layer_norm", "bias_skip_layer_norm", "bias_gelu", "gelu", "layer_norm",
    "rotary_embeddings", "qordered_matmul",
)  # fmt: skip

# The patterns for encoders. Families that have none of their own are tried with these; how many layers were found is
# counted afterwards.
_PATTERNS = "bert"


def fuse(
    model: Path, architecture: Mapping[str, Any], fused: Path, without: frozenset[str], *, multi_head: bool = False
) -> None:
    """Write to `fused` the graph of `model` after all fusions but those in `without`, weights beside it. Attention
    becomes Attention, or MultiHeadAttention with `multi_head`.
    """
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    optimized = optimize_model(
        str(model),
        model_type=_PATTERNS,
        num_heads=architecture["num_attention_heads"] or 0,
        hidden_size=architecture["hidden_size"] or 0,
        optimization_options=fusion_options(without, multi_head=multi_head),
        opt_level=0,
        use_gpu=False,
    )
    optimized.save_model_to_file(str(fused), use_external_data_format=True)


def fusion_options(without: frozenset[str], *, multi_head: bool = False) -> Any:
    """ONNX Runtime's FusionOptions for encoders, with the mask as it is and the fusions in `without` switched off."""
    options = FusionOptions(_PATTERNS)
    options.use_raw_attention_mask(True)
    options.use_multi_head_attention = multi_head
    for name in without & set(FUSIONS):
        setattr(options, f"enable_{name}", False)
    return options
