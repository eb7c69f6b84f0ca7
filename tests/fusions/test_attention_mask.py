"""The mask itself: used where the bias says nothing else, and the bias left alone where it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from fusions.graphs import Node, graph, outputs
from onnx import TensorProto

from modelbuild.fusions.attention_mask import fuse_attention_mask
from modelbuild.masks import MASKS, attention_mask

_RNG = np.random.default_rng(0)
_CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "words": _RNG.standard_normal((16, 8), dtype=np.float32),
    "weight": _RNG.standard_normal((8, 24), dtype=np.float32),
    "bias": _RNG.standard_normal(24, dtype=np.float32),
    "axes": np.array([1, 2]),
    "one": np.array([1]),
    "full": np.array(1, dtype=np.float32),
    "lowest": np.array(np.finfo(np.float32).min, dtype=np.float32),
}
_INPUTS = dict.fromkeys(("input_ids", "attention_mask"), TensorProto.INT64)
_NODES: tuple[Node, ...] = (
    ("Gather", ["words", "input_ids"], "x", {}),
    ("Shape", ["input_ids"], "batch", {"start": 0, "end": 1}),
    ("Shape", ["input_ids"], "sequence", {"start": 1, "end": 2}),
    ("Concat", ["batch", "one", "sequence", "sequence"], "shape", {"axis": 0}),
    ("Unsqueeze", ["attention_mask", "axes"], "column", {}),
    ("Expand", ["column", "shape"], "rows", {}),
    ("Cast", ["rows"], "open", {"to": TensorProto.FLOAT}),
    ("Sub", ["full", "open"], "closed", {}),
    ("Cast", ["closed"], "is_closed", {"to": TensorProto.BOOL}),
    ("Where", ["is_closed", "lowest", "closed"], "added", {}),
    ("Attention", ["x", "weight", "bias", "", "", "added"], "y", {"num_heads": 2}),
)


def _attention(nodes: tuple[Node, ...] = _NODES, **constants: npt.NDArray[Any]) -> ir.Model:
    return graph(nodes, _INPUTS, _CONSTANTS | constants)


def _mask_of(model: ir.Model) -> str:
    node = next(node for node in model.graph if node.op_type == "Attention")
    return "itself" if node.inputs[3] is not None and len(node.inputs) < 6 else "a bias"


@pytest.mark.parametrize("kind", MASKS)
def test_attention_with_the_mask_itself_gives_the_same_for_every_kind(kind: str, tmp_path: Path) -> None:
    plain, fused = _attention(), _attention()
    assert fuse_attention_mask(fused) == 1
    assert _mask_of(fused) == "itself"
    for shape in ((1, 2), (3, 9), (2, 16)):
        inputs = {
            "input_ids": _RNG.integers(0, 16, shape),
            "attention_mask": attention_mask(shape, kind, np.random.default_rng(1)),
        }
        assert np.allclose(outputs(plain, inputs, tmp_path), outputs(fused, inputs, tmp_path), atol=1e-5)


def _changed(**by_output: Node) -> tuple[Node, ...]:
    return tuple(by_output.get(node[2], node) for node in _NODES)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        (_changed(column=("Unsqueeze", ["attention_mask", "axes"], "column", {})), {"axes": np.array([1, 3])}),
        (_changed(), {"full": np.array(2, dtype=np.float32)}),
        (_changed(), {"lowest": np.full((9, 9), -3.0, dtype=np.float32)}),
        (_changed(closed=("Mul", ["full", "open"], "closed", {})), {}),
        (_changed(column=("Unsqueeze", ["input_ids", "axes"], "column", {})), {"one": np.array([2])}),
    ],
    ids=["by query", "another full", "values by place", "no difference", "by head"],
)
def test_a_bias_that_says_anything_else_is_left_alone(
    nodes: tuple[Node, ...], constants: dict[str, npt.NDArray[Any]]
) -> None:
    model = _attention(nodes, **constants)
    assert fuse_attention_mask(model) == 0
    assert _mask_of(model) == "a bias"
