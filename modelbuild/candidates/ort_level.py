"""ONNX Runtime's own graph optimizations, saved into the file.

At most `extended` is saved: what comes above is tied to the instruction set of the machine, and every session does it
anyway when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from modelbuild.errors import OptimizeError
from modelbuild.graph import data_file
from modelbuild.runtime.custom_ops import register

_LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}
# The optimizers of each level that have something to do in a float graph, by ONNX Runtime's names. It ignores a name
# that it does not know; a test compares these with its log.
_BASIC = (
    "LayerNormFusionL1", "GeluFusionL1", "MatMulAddFusion", "ReshapeFusion", "TransposeOptimizer", "ConstantFolding",
    "ConstantSharing", "CommonSubexpressionElimination", "Level1_RuleBasedTransformer",
    "SliceConcatToSpaceToDepthFusion",
)  # fmt: skip
_EXTENDED = (
    "AttentionFusion", "GroupQueryAttentionFusion", "GroupQueryAttentionPreNormFusion", "EmbedLayerNormFusion",
    "SkipLayerNormFusion", "BiasSkipLayerNormFusion", "LayerNormFusionL2", "SimplifiedLayerNormFusion", "GeluFusionL2",
    "BiasGeluFusion", "FastGeluFusion", "QuickGeluFusion", "BiasSoftmaxFusion", "MatmulTransposeFusion",
    "MatMulScaleFusion", "MatMulActivationFusion", "GemmActivationFusion", "ConvActivationFusion",
    "GatherSliceToSplitFusion", "GatherToSliceFusion", "Level2_RuleBasedTransformer",
)  # fmt: skip
# Tensors below this stay in the graph file: shapes and scalars, which shape inference wants to see.
_EXTERNAL_FROM_BYTES = "1024"


def fusions(kind: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of ONNX Runtime's optimizers at level `kind`."""
    return _BASIC if kind == "basic" else (*_EXTENDED, *_BASIC)


def optimize(
    kind: str,
    source: Path,
    facts: Mapping[str, Any],
    out: Path,
    without: frozenset[str] = frozenset(),
    custom_ops: Sequence[str] = (),
) -> None:
    """Open the model at level `kind` and save what ONNX Runtime made of it, weights beside it."""
    save_optimized(source, kind, out, without, custom_ops)


def save_optimized(
    model: Path,
    level: str,
    out: Path,
    without: frozenset[str] = frozenset(),
    custom_ops: Sequence[str] = (),
) -> None:
    """Save as `out` what ONNX Runtime makes of `model` at `basic` or `extended`, without the optimizers named in
    `without`. Raises OptimizeError when it cannot.
    """
    options = ort.SessionOptions()
    register(options, custom_ops)
    options.graph_optimization_level = _LEVELS[level]
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 3
    # What a session packs for its kernels is not saved: it would take time, and the weights a second time.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data_file(out.name))
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", _EXTERNAL_FROM_BYTES
    )
    try:
        ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=sorted(without)
        )
    except Exception as error:
        raise OptimizeError(f"ONNX Runtime cannot optimize the graph: {error}", where=level) from error
