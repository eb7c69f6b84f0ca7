"""Token, position and token type embeddings, their sum and its normalization, as one EmbedLayerNormalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import pattern

_DOMAIN = "com.microsoft"


@dataclass(frozen=True, kw_only=True)
class _Lookup:
    """A table `(rows, hidden)`, and the ids that are looked up in it, with the names or numbers of their axes.

    `ids` is None where they are 0, 1, 2, ... for each row, and `shape` is the sequence alone.
    """

    table: ir.Value
    ids: ir.Value | None
    shape: tuple[int | str | None, ...]


def _normalized_sum(op: Any, x: Any, y: Any, gamma: Any, beta: Any) -> Any:
    total = op.Add(x, y, _outputs=["total"])
    return op.LayerNormalization(total, gamma, beta, axis=-1, _allow_other_attributes=True, _outputs=["normalized"])


def _of_lookups(_: Any, total: ir.Value, **__: Any) -> bool:
    return _slots(total) is not None


def _one_operator(op: Any, total: ir.Value, gamma: ir.Value, beta: ir.Value, normalized: Any, **_: Any) -> Any:
    slots = _slots(total)
    assert slots is not None
    word, position, kind = slots
    embedded, _mask_index = op.EmbedLayerNormalization(
        _int32(op, word.ids), _int32(op, kind.ids if kind else None),
        word.table, position.table, kind.table if kind else None,
        gamma, beta, None, _int32(op, position.ids),
        epsilon=normalized.producer().attributes.get_float("epsilon", 1e-5),
        _domain=_DOMAIN, _outputs=2,
    )  # fmt: skip
    return embedded


def _int32(op: Any, ids: ir.Value | None) -> Any:
    return None if ids is None else op.Cast(ids, to=ir.DataType.INT32.value)


def _slots(total: ir.Value) -> tuple[_Lookup, _Lookup, _Lookup | None] | None:
    """The lookups in a sum as words, positions, token types (or none), or None where the sum is of something else.

    The operator adds all three alike, so that it does not matter which is called what: only positions that count up
    from 0 must be in their own place. Without such, the last lookup is taken for positions.
    """
    lookups = [_lookup(term) for term in _terms(total)]
    found = [item for item in lookups if item is not None]
    given = [item for item in found if item.ids is not None]
    if len(found) != len(lookups) or len(found) not in (2, 3) or len(found) - len(given) > 1:
        return None
    if any(item.shape != given[0].shape for item in given):
        return None
    counted = [item for item in found if item.ids is None]
    if any(item.shape != given[0].shape[1:] for item in counted):
        return None
    ordered = given + counted
    return ordered[0], ordered[-1], ordered[1] if len(ordered) == 3 else None


def _terms(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    if node is None or node.op_type != "Add" or node.domain:
        return [value]
    return [term for item in node.inputs for term in _terms(item)]


def _lookup(term: ir.Value) -> _Lookup | None:
    node = term.producer()
    if node is None or node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return None
    table, ids = node.inputs
    if not _is_table(table):
        return None
    length = _counted(ids)
    if length is not None:
        return _Lookup(table=table, ids=None, shape=(length,))
    shape = () if ids.shape is None else tuple(map(_size, ids.shape))
    return _Lookup(table=table, ids=ids, shape=shape) if len(shape) == 2 and None not in shape else None


def _is_table(value: ir.Value) -> bool:
    constant = value.const_value
    return constant is not None and len(constant.shape) == 2 and constant.dtype == ir.DataType.FLOAT


def _counted(ids: ir.Value) -> int | str | None:
    """The length of `ids` where they are `[[0, 1, 2, ...]][:, :length]`; None where they are anything else."""
    node = ids.producer()
    if node is None or node.op_type != "Slice" or len(node.inputs) < 4:
        return None
    stored = node.inputs[0].const_value
    if stored is None or len(stored.shape) != 2 or stored.shape[0] != 1:
        return None
    rest = [value.const_value for value in (node.inputs[1], *node.inputs[3:])]
    wanted = [0, 1, 1][: len(rest)]  # from the start, along the sequence, one by one
    if any(item is None or item.numpy().tolist() != [want] for item, want in zip(rest, wanted, strict=True)):
        return None
    counts = np.array_equal(stored.numpy()[0], np.arange(stored.shape[1]))
    return _measured(node.inputs[2]) if counts else None


def _measured(value: ir.Value) -> int | str | None:
    """The axis whose size `value` is, taken from a shape: its name, or its number."""
    node = value.producer()
    if node is None or node.op_type != "Shape" or node.inputs[0].shape is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
    return _size(node.inputs[0].shape[start]) if end == start + 1 else None


def _size(dim: Any) -> int | str | None:
    size: int | str | None = dim if isinstance(dim, int) else dim.value
    return size


_RULE = pattern.RewriteRule(
    _normalized_sum, _one_operator, _of_lookups, name="EmbedLayerNormalization", remove_nodes=False
)


def fuse_embed_layer_normalization(model: ir.Model) -> int:
    """Fuse the embeddings of `model`. Returns how many such places there were."""
    return int(pattern.RewriteRuleSet([_RULE]).apply_to_model(model))
