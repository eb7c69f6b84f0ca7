"""Products over flattened positions become products where the positions are, and only where that is the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from fusions.graphs import Node, graph, operators, outputs
from onnx import TensorProto

from modelbuild.fusions.flat_gemm import unflatten_gemm

_RNG = np.random.default_rng(0)
_CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "last": np.array([-1]),
    "spread": _RNG.standard_normal((1, 4)).astype(np.float32),
    "flat": np.array([-1, 4]),
    "heads": np.array([0, 0, 2, 2]),
    "weight": _RNG.standard_normal((4, 8)).astype(np.float32),
    "bias": _RNG.standard_normal(8).astype(np.float32),
    "width": np.array([8]),
}
_START: tuple[Node, ...] = (
    ("Unsqueeze", ["given", "last"], "column", {}),
    ("MatMul", ["column", "spread"], "x", {}),
    ("Shape", ["given"], "sizes", {}),
    ("Concat", ["sizes", "width"], "wanted", {"axis": 0}),
)


def _model(*nodes: Node) -> ir.Model:
    used = {name for _, names, _, _ in (*_START, *nodes) for name in names}
    constants = {name: value for name, value in _CONSTANTS.items() if name in used}
    return graph((*_START, *nodes), {"given": TensorProto.FLOAT}, constants)


def _product(x: str, inputs: Sequence[str] = ("weight", "bias"), **attributes: Any) -> tuple[Node, ...]:
    return (
        ("Reshape", [x, "flat"], "rows", {}),
        ("Gemm", ["rows", *inputs], "product", attributes),
        ("Reshape", ["product", "wanted"], "y", {}),
    )


@pytest.mark.parametrize(
    "nodes",
    [
        _product("x"),
        _product("x", ["weight"]),
        (("Reshape", ["x", "heads"], "apart", {}), *_product("apart")),
    ],
    ids=["with a bias", "without", "of several heads"],
)
def test_a_product_keeps_its_values_and_its_positions(nodes: tuple[Node, ...], tmp_path: Path) -> None:
    given = {"given": _RNG.standard_normal((3, 5)).astype(np.float32)}
    model = _model(*nodes)
    before = outputs(model, given, tmp_path)
    assert unflatten_gemm(model) == 1
    assert "Gemm" not in operators(model)
    np.testing.assert_allclose(outputs(model, given, tmp_path), before, rtol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        _product("x", alpha=2.0),
        (("Transpose", ["x"], "turned", {"perm": [1, 0, 2]}), *_product("turned")),
    ],
    ids=["scaled", "of other axes"],
)
def test_another_product_is_left_as_it_is(nodes: tuple[Node, ...]) -> None:
    model = _model(*nodes)
    assert unflatten_gemm(model) == 0
    assert "Gemm" in operators(model)
