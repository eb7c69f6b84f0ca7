"""Positions for RotaryEmbedding, one row for each row of the batch.

onnxscript's fusion takes them as the graph has them, which is one row for all; ONNX Runtime's kernel refuses that for
any batch but of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import pattern

_DOMAIN = "com.microsoft"


def _rotated(op: Any, x: Any, positions: Any, cos: Any, sin: Any) -> Any:
    return op.RotaryEmbedding(
        x, positions, cos, sin, _domain=_DOMAIN, _allow_other_attributes=True, _outputs=["rotated"]
    )


def _one_row_for_all(_: Any, x: ir.Value, positions: ir.Value, **__: Any) -> bool:
    if x.shape is None or positions.shape is None or positions.shape.rank() != 2:
        return False
    return bool(positions.shape[0] == 1 and x.shape[0] != 1)


def _one_row_each(op: Any, x: ir.Value, positions: ir.Value, cos: Any, sin: Any, rotated: Any, **_: Any) -> Any:
    attributes = {name: item.value for name, item in rotated.producer().attributes.items()}
    one = op.Constant(value=ir.tensor(np.array([1], dtype=np.int64)))
    rows = op.Expand(positions, op.Concat(op.Shape(x, start=0, end=1), one, axis=0))
    return op.RotaryEmbedding(x, rows, cos, sin, **attributes, _domain=_DOMAIN)


_RULE = pattern.RewriteRule(_rotated, _one_row_each, _one_row_for_all, name="rotary positions")


def expand_rotary_positions(model: ir.Model) -> int:
    """Give every RotaryEmbedding of a batch a row of positions for each of its rows. Returns how many needed it."""
    return int(pattern.RewriteRuleSet([_RULE]).apply_to_model(model))
