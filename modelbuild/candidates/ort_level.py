"""ONNX Runtime's own graph optimizations, saved into the file.

At most `extended` is saved: what comes above is tied to the instruction set of the machine, and every session does it
anyway when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, WEIGHTS_FILE

_LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}
# Tensors below this stay in the graph file: shapes and scalars, which shape inference wants to see.
_EXTERNAL_FROM_BYTES = "1024"


def optimize(kind: str, source: Path, facts: Mapping[str, Any], out: Path) -> None:
    """Open the model at level `kind` and save what ONNX Runtime made of it, weights beside it."""
    save_optimized(source / MODEL_FILE, kind, out)


def save_optimized(model: Path, level: str, out: Path) -> None:
    """Save into `out` what ONNX Runtime makes of `model` at `basic` or `extended`. Raises OptimizeError when it
    cannot.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.optimized_model_filepath = str(out / MODEL_FILE)
    options.log_severity_level = 3
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS_FILE)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", _EXTERNAL_FROM_BYTES
    )
    try:
        ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise OptimizeError(
            f"ONNX Runtime cannot optimize the graph: {error}", where=level, hint="choose optimization=none"
        ) from error
