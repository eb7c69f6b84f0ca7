"""Products over flattened positions, as GPT-2's layers are written: `(batch * sequence, size)` for a while.

Fusions look for a product and a sum on `(batch, sequence, size)`. Attention that is fused in front of a flattened
product would drop the first of the two Reshapes and leave the second.
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern

_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _flattened(op: Any, x: Any, weight: Any, flat: Any, shape: Any) -> Any:
    product = op.Gemm(
        op.Reshape(x, flat), weight, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["product"]
    )
    return op.Reshape(product, shape, _outputs=["result"])


def _keeps_batch_and_positions(
    _: Any, x: ir.Value, weight: ir.Value, product: Any, result: ir.Value, **__: Any
) -> bool:
    attributes = {name: item.value for name, item in product.producer().attributes.items()}
    plain = all(attributes.get(name, usual) == usual for name, usual in _PLAIN.items())
    if not plain or x.shape is None or result.shape is None or weight.shape is None:
        return False
    own = list(x.shape[2:])
    merged = math.prod(size for size in own if isinstance(size, int))
    known = all(isinstance(size, int) for size in own) and merged == weight.shape[0]
    return bool(len(x.shape) > 2 and known and len(result.shape) == 3 and list(x.shape[:2]) == list(result.shape[:2]))


def _in_place(op: Any, x: ir.Value, weight: ir.Value, product: ir.Value, **_: Any) -> Any:
    assert x.shape is not None
    joined = x if len(x.shape) == 3 else op.Reshape(x, op.Constant(value_ints=[0, 0, -1]))
    _, _, *bias = product.producer().inputs
    multiplied = op.MatMul(joined, weight)
    return op.Add(multiplied, bias[0]) if bias and bias[0] is not None else multiplied


_RULE = pattern.RewriteRule(_flattened, _in_place, _keeps_batch_and_positions, name="flat gemm")


def unflatten_gemm(model: ir.Model) -> int:
    """Make every such product one on the axes that there were. Returns how many there were."""
    return int(pattern.RewriteRuleSet([_RULE]).apply_to_model(model))
