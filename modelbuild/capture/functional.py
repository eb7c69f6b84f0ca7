"""Captured programs whose operators ONNX has as they are, so that they need not be traced a second time.

torch's exporter runs its decompositions over every program: what writes into tensors becomes what does not, and
operators that ONNX lacks become several that it has. That is a second trace, which takes longer than the first. Of most
transformers nothing comes of it that a look at single nodes does not give as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

_ATEN = torch.ops.aten
# What gives its first argument back, or a copy of it; nothing is written into either.
_SAME = {_ATEN.detach_.default, _ATEN.detach.default, _ATEN.alias.default, _ATEN.contiguous.default}
_CONVERSIONS = {_ATEN.to.dtype, _ATEN.to.dtype_layout, _ATEN.to.device}
# Said of tensors, not computed.
_CHECKS = {
    _ATEN.sym_constrain_range_for_size.default,
    _ATEN._assert_async.default,  # noqa: SLF001 - the names of operators
    _ATEN._assert_async.msg,  # noqa: SLF001
    _ATEN._assert_scalar.default,  # noqa: SLF001
    _ATEN._assert_tensor_metadata.default,  # noqa: SLF001
}


@dataclass(frozen=True, kw_only=True)
class _Instead:
    """What stands where a node is: the operator `target`, or, where there is none, the value of the first argument."""

    target: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def make_functional(graph: Graph, known: Collection[Any]) -> bool:
    """Rewrite `graph` until all its operators are `known` and none writes into a tensor, and drop what nothing reads.

    False, with `graph` as it was, where that takes more than a look at single nodes.
    """
    called = [node for node in graph.nodes if node.op == "call_function" and node.target not in _CHECKS]
    if any(node.op not in ("placeholder", "call_function", "output") for node in graph.nodes):
        return False
    instead = {node: _instead(node, known) for node in called}
    if None in instead.values():
        return False
    for node, new in instead.items():
        if new is not None and new.target is not node.target:
            _replace(graph, node, new)
    for node in [node for node in graph.nodes if node.target in _CHECKS]:
        graph.erase_node(node)
    graph.eliminate_dead_code()
    return True


def _instead(node: Node, known: Collection[Any]) -> _Instead | None:
    """What to put for `node`, itself for most; None where nothing is known to be the same."""
    target = node.target
    if target in _SAME or (target is _ATEN.dropout.default and not node.args[2]):
        return _Instead()
    if target in _CONVERSIONS:
        return _conversion(node)
    if target is _ATEN.reshape.default:
        return _Instead(target=_ATEN.view.default, args=node.args)
    if getattr(getattr(target, "_schema", None), "is_mutable", False):
        target = _functional(node)
    # Decompositions leave no composite view, so that what the exporter would make of one is not known to be right.
    if target not in known or (_aliases(target) and _is_composite(target)):
        return None
    return _Instead(target=target, args=node.args, kwargs=dict(node.kwargs))


def _conversion(node: Node) -> _Instead:
    """A conversion to another type, or nothing where it is that type already."""
    before, after = node.args[0].meta["val"], node.meta["val"]
    if before.dtype == after.dtype:
        return _Instead()
    return _Instead(target=_ATEN._to_copy.default, args=(node.args[0],), kwargs={"dtype": after.dtype})  # noqa: SLF001


def _functional(node: Node) -> Any:
    """The operator that computes what `node` writes into its first argument; None where others can see it written."""
    written, target = node.args[0], node.target
    if not isinstance(written, Node) or len(written.users) > 1 or not _is_fresh(written):
        return None
    if any(argument.alias_info for argument in target._schema.arguments[1:]):
        return None
    packet = getattr(_ATEN, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
    return getattr(packet, target._overloadname, None)


def _is_fresh(node: Node) -> bool:
    """Whether the tensor of `node` is its own and no other's. Composite operators may give back what they were given
    without saying so, as dropout does.
    """
    target = node.target
    return isinstance(target, OpOverload) and not _is_composite(target) and not _aliases(target)


def _is_composite(target: Any) -> bool:
    kind = "CompositeImplicitAutograd"
    return isinstance(target, OpOverload) and torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), kind)


def _aliases(target: Any) -> bool:
    return isinstance(target, OpOverload) and any(result.alias_info for result in target._schema.returns)


def _replace(graph: Graph, node: Node, new: _Instead) -> None:
    if new.target is None:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    else:
        node.target, node.args, node.kwargs = new.target, new.args, new.kwargs
