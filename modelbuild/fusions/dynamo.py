"""Fusions for dynamo's graphs: onnxscript's, one by one, and ours.

The order is that of `onnxscript.rewriter.ort_fusions.optimize_for_ort`, which does all or nothing; a fusion that can be
left out alone can be found guilty alone. GroupQueryAttention is not among them: its kernel counts the tokens of each
row and takes them for the first ones, so that padding on the left, holes and empty rows come out wrong or not at all.
Grouped heads are repeated for MultiHeadAttention, as PyTorch does too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import optimize
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.ort_fusions import shape_optimization
from onnxscript.rewriter.ort_fusions._core import ORT_PATTERN_REWRITE_RULES
from onnxscript.rewriter.ort_fusions.attention import fuse_attention
from onnxscript.rewriter.ort_fusions.bias_gelu import fuse_bias_gelu
from onnxscript.rewriter.ort_fusions.cos_sin_cache import fuse_cos_sin_cache
from onnxscript.rewriter.ort_fusions.erfgelu import fuse_erfgelu
from onnxscript.rewriter.ort_fusions.gelu import fuse_gelu
from onnxscript.rewriter.ort_fusions.mha import fuse_mha1, fuse_mha2
from onnxscript.rewriter.ort_fusions.mha_bias import fuse_mha_bias
from onnxscript.rewriter.ort_fusions.mha_scale import fuse_mha_scale
from onnxscript.rewriter.ort_fusions.rms_normalization import fuse_rms_normalization
from onnxscript.rewriter.ort_fusions.rotary_embedding import fuse_partial_rotary_embedding, fuse_rotary_embedding
from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
from onnxscript.rewriter.ort_fusions.sdpa_via_mha import replace_sdpa_by_mha
from onnxscript.rewriter.ort_fusions.skip_normalization import (
    fuse_skip_layer_normalization,
    fuse_skip_rms_normalization,
)
from onnxscript.rewriter.rules.common import gemm_to_matmul_add_rule

from modelbuild.fusions.attention_mask import fuse_attention_mask
from modelbuild.fusions.embedding import fuse_embed_layer_normalization
from modelbuild.fusions.flat_gemm import unflatten_gemm
from modelbuild.fusions.linked import save_beside
from modelbuild.fusions.rotary_positions import expand_rotary_positions, lengthen_rotary_tables
from modelbuild.quick_rules import only_where_they_match


def _rotary_embedding(model: ir.Model) -> None:
    fuse_rotary_embedding(model)
    fuse_cos_sin_cache(model)
    common.CommonSubexpressionEliminationPass()(model)
    fuse_partial_rotary_embedding(model)
    common.ShapeInferencePass()(model)
    expand_rotary_positions(model)
    lengthen_rotary_tables(model)


def _sdpa(model: ir.Model) -> None:
    """Scaled dot product attention as one operator. What makes the shapes of its keys readable to the pattern leaves
    them wrong where the pattern then does not match (a `-1` twice in one Reshape), so that both are one fusion.
    """
    shape_optimization.rules.apply_to_model(model)
    optimize(model)
    fuse_sdpa(model, apply_shape_inference=True)


def _multi_head_attention(model: ir.Model) -> None:
    fuse_mha1(model)
    fuse_mha2(model)
    fuse_mha_scale(model)
    fuse_mha_bias(model)


def _gelu(model: ir.Model) -> None:
    fuse_gelu(model)
    fuse_bias_gelu(model)


# Name -> what it does to a model, in order.
_STEPS: dict[str, Callable[[ir.Model], object]] = {
    "erf_gelu": fuse_erfgelu,
    "rms_normalization": fuse_rms_normalization,
    "embed_layer_normalization": fuse_embed_layer_normalization,
    "skip_layer_normalization": fuse_skip_layer_normalization,
    "skip_rms_normalization": fuse_skip_rms_normalization,
    "rotary_embedding": _rotary_embedding,
    "sdpa": _sdpa,
    "multi_head_attention": _multi_head_attention,
    "attention": fuse_attention,
    "attention_mask": fuse_attention_mask,
    "gelu": _gelu,
    "sdpa_via_multi_head_attention": replace_sdpa_by_mha,
    "matmul": partial(rewrite, pattern_rewrite_rules=ORT_PATTERN_REWRITE_RULES),
}
FUSIONS = tuple(_STEPS)


@only_where_they_match()
def fuse(model: Path, fused: Path, without: frozenset[str]) -> None:
    """Write to `fused` the graph of `model` after all fusions but those in `without`, weights beside it."""
    graph = ir.load(model)
    _prepare(graph)
    for name, step in _STEPS.items():
        if name not in without:
            step(graph)
    _finish(graph)
    save_beside(graph, fused)


def _prepare(graph: ir.Model) -> None:
    rewrite(graph, [gemm_to_matmul_add_rule])
    common.ShapeInferencePass()(graph)
    unflatten_gemm(graph)
    optimize(graph)


def _finish(graph: ir.Model) -> None:
    """Inline the functions that fusions made for one another and none took up, and drop what nothing reads."""
    optimize(graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=1)(graph)
    common.RemoveInitializersFromInputsPass()(graph)
    common.ShapeInferencePass()(graph)
