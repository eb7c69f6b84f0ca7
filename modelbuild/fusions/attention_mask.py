"""The attention mask as the model takes it, where the graph makes a bias of `(batch, 1, sequence, sequence)` from it.

ONNX Runtime's Attention adds `mask_filter_value` to the scores of positions whose mask is 0, and so does PyTorch's
bias: the sums are the same for every kind of mask, without the chain of nodes and without the bias in memory.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern

_DOMAIN = "com.microsoft"


def _bias_from_mask(op: Any, x: Any, weight: Any, bias: Any, mask: Any, axes: Any, shape: Any, lowest: Any) -> Any:
    """`Where(1 - mask, lowest, 1 - mask)` as the bias of an Attention, the mask expanded to a row per token."""
    column = op.Unsqueeze(mask, axes, _outputs=["column"])
    expanded = op.Expand(column, shape, _outputs=["expanded"])
    closed = op.Sub(1.0, op.Cast(expanded, to=ir.DataType.FLOAT.value))
    added = op.Where(op.Cast(closed, to=ir.DataType.BOOL.value), lowest, closed)
    return op.Attention(
        x, weight, bias, None, None, added, None, _domain=_DOMAIN, _allow_other_attributes=True, _outputs=["attention"]
    )


def _depends_on_batch_and_key_alone(
    _: Any, mask: ir.Value, column: ir.Value, expanded: ir.Value, lowest: ir.Value, **__: Any
) -> bool:
    if mask.shape is None or mask.shape.rank() != 2 or column.shape is None or expanded.shape is None:
        return False
    batch, sequence = mask.shape
    by_key = list(column.shape) == [batch, 1, 1, sequence] and list(expanded.shape) == [batch, 1, sequence, sequence]
    one_value = lowest.const_value is not None and lowest.const_value.size == 1
    return bool(mask.is_graph_input() and by_key and one_value and batch != sequence)


def _mask_itself(
    op: Any, x: ir.Value, weight: ir.Value, bias: ir.Value, mask: ir.Value, lowest: Any, attention: Any, **_: Any
) -> Any:
    attributes = {name: item.value for name, item in attention.producer().attributes.items()}
    attributes["mask_filter_value"] = float(lowest.const_value.numpy().reshape(()))
    index = op.Cast(mask, to=ir.DataType.INT32.value)
    return op.Attention(x, weight, bias, index, **attributes, _domain=_DOMAIN)


# The chain is shared by all layers, so that no match may remove it; it goes when the last of them reads it no more.
_RULE = pattern.RewriteRule(
    _bias_from_mask, _mask_itself, _depends_on_batch_and_key_alone, name="attention mask", remove_nodes=False
)


def fuse_attention_mask(model: ir.Model) -> int:
    """Give every Attention that adds such a bias the mask itself. Returns how many."""
    return int(pattern.RewriteRuleSet([_RULE]).apply_to_model(model))
