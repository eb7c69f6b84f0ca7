"""EmbedLayerNormalization: fused where the sum is of lookups, and left alone where it is of anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from fusions.graphs import Node, graph, operators, outputs
from onnx import TensorProto

from modelbuild.fusions.embedding import fuse_embed_layer_normalization

_RNG = np.random.default_rng(0)
_CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "words": _RNG.standard_normal((16, 8), dtype=np.float32),
    "positions": _RNG.standard_normal((6, 8), dtype=np.float32),
    "types": _RNG.standard_normal((2, 8), dtype=np.float32),
    "gamma": _RNG.standard_normal(8, dtype=np.float32),
    "beta": _RNG.standard_normal(8, dtype=np.float32),
    "counting": np.arange(6, dtype=np.int64)[None],
    "zero": np.array([0]),
    "one": np.array([1]),
}
_INPUTS = dict.fromkeys(("input_ids", "token_type_ids", "position_ids"), TensorProto.INT64)
_LENGTH: Node = ("Shape", ["input_ids"], "length", {"start": 1, "end": 2})
_COUNT: Node = ("Slice", ["counting", "zero", "length", "one", "one"], "counted", {})
_WORD: Node = ("Gather", ["words", "input_ids"], "word", {})
_TYPE: Node = ("Gather", ["types", "token_type_ids"], "type", {})
_PLACE: Node = ("Gather", ["positions", "counted"], "place", {})
_NORM: Node = ("LayerNormalization", ["total", "gamma", "beta"], "y", {"axis": -1, "epsilon": 1e-12})


def _embeddings(*nodes: Node, **constants: npt.NDArray[Any]) -> ir.Model:
    return graph([*nodes, _NORM], _INPUTS, _CONSTANTS | constants)


def _ids(sequence: int) -> dict[str, npt.NDArray[Any]]:
    shape = (3, sequence)
    highs = {"input_ids": 16, "token_type_ids": 2, "position_ids": 6}
    return {name: _RNG.integers(0, high, shape) for name, high in highs.items()}


def _with_types() -> ir.Model:
    add: Node = ("Add", ["word", "type"], "both", {})
    return _embeddings(_LENGTH, _COUNT, _WORD, _TYPE, _PLACE, add, ("Add", ["both", "place"], "total", {}))


def _without_types() -> ir.Model:
    return _embeddings(_LENGTH, _COUNT, _WORD, _PLACE, ("Add", ["place", "word"], "total", {}))


def _own_positions() -> ir.Model:
    place: Node = ("Gather", ["positions", "position_ids"], "place", {})
    add: Node = ("Add", ["word", "type"], "both", {})
    return _embeddings(_WORD, _TYPE, place, add, ("Add", ["place", "both"], "total", {}))


@pytest.mark.parametrize("make", [_with_types, _without_types, _own_positions])
def test_lookups_and_their_normalization_become_one_operator_with_the_same_result(make: Any, tmp_path: Path) -> None:
    plain, fused = make(), make()
    assert fuse_embed_layer_normalization(fused) == 1
    assert "LayerNormalization" not in operators(fused)
    assert "EmbedLayerNormalization" in operators(fused)
    for sequence in (1, 4, 6):
        ids = _ids(sequence)
        assert np.allclose(outputs(plain, ids, tmp_path), outputs(fused, ids, tmp_path), atol=1e-5)


def test_a_sequence_beyond_the_last_position_is_refused_as_before(tmp_path: Path) -> None:
    fused = _with_types()
    fuse_embed_layer_normalization(fused)
    with pytest.raises(Exception, match=r"EmbedLayerNormalization.*index out of range"):
        outputs(fused, _ids(7), tmp_path)


_TOTAL: Node = ("Add", ["word", "place"], "total", {})


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([_LENGTH, _COUNT, _WORD, _PLACE, _TOTAL], {"counting": np.arange(6, dtype=np.int64)[None, ::-1].copy()}),
        ([_LENGTH, _COUNT, _WORD, _PLACE, _TOTAL], {"zero": np.array([1])}),
        ([("Shape", ["input_ids"], "length", {"start": 0, "end": 1}), _COUNT, _WORD, _PLACE, _TOTAL], {}),
        ([_WORD, ("Relu", ["word"], "place", {}), _TOTAL], {}),
        ([_WORD, ("Identity", ["beta"], "place", {}), _TOTAL], {}),
        ([_WORD, ("Gather", ["positions", "counting"], "place", {}), _TOTAL], {}),
    ],
    ids=["backwards", "from the second", "as long as the batch", "activation", "bias", "all positions"],
)
def test_anything_else_is_left_alone(nodes: list[Node], constants: dict[str, npt.NDArray[Any]]) -> None:
    model = _embeddings(*nodes, **constants)
    before = operators(model)
    assert fuse_embed_layer_normalization(model) == 0
    assert operators(model) == before
