"""What ONNX Runtime's RotaryEmbedding wants of its positions and its table, and onnxscript's fusion does not give it.

The fusion takes positions as the graph has them, which may be one row for all; the kernel refuses that for any batch
but of one. And it makes a table as long as the largest position; the kernel refuses more tokens than the table has
rows, though with padding there are more tokens than positions.
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


def _angles(op: Any, positions: Any, one: Any, start: Any, step: Any, shape: Any, frequencies: Any) -> Any:
    """The angles of all positions up to the largest that is met."""
    most = op.Add(op.ReduceMax(positions, _allow_other_attributes=True), one, _outputs=["most"])
    column = op.Reshape(op.Range(start, most, step), shape)
    return op.MatMul(op.Cast(column, to=ir.DataType.FLOAT.value), frequencies, _outputs=["angles"])


def _of_a_table(_: Any, positions: ir.Value, angles: ir.Value, **__: Any) -> bool:
    """Positions that are one row for all are those of every token, for they know of no padding."""
    readers = {node.op_type for node, _ in angles.uses()}
    if positions.shape is None or positions.shape.rank() != 2 or positions.shape[0] == 1:
        return False
    return readers <= {"Cos", "Sin"}


def _of_every_token(
    op: Any, positions: ir.Value, most: ir.Value, start: Any, step: Any, shape: Any, frequencies: Any, **_: Any
) -> Any:
    tokens = op.Squeeze(op.Shape(positions, start=1, end=2), op.Constant(value_ints=[0]))
    column = op.Reshape(op.Range(start, op.Max(most, tokens), step), shape)
    return op.MatMul(op.Cast(column, to=ir.DataType.FLOAT.value), frequencies)


_LONGER = pattern.RewriteRule(_angles, _of_every_token, _of_a_table, name="rotary table", remove_nodes=False)
_RULE = pattern.RewriteRule(_rotated, _one_row_each, _one_row_for_all, name="rotary positions")


def expand_rotary_positions(model: ir.Model) -> int:
    """Give every RotaryEmbedding of a batch a row of positions for each of its rows. Returns how many needed it."""
    return int(pattern.RewriteRuleSet([_RULE]).apply_to_model(model))


def lengthen_rotary_tables(model: ir.Model) -> int:
    """Give every table at least a row for each token that is new. Returns how many needed it."""
    return int(pattern.RewriteRuleSet([_LONGER]).apply_to_model(model))
