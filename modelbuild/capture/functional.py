"""Captured programs whose operators ONNX has as they are, so that they need not be traced a second time.

torch's exporter runs its decompositions over every program: what writes into tensors becomes what does not, and
operators that ONNX lacks become several that it has. That is a second trace, which takes longer than the first. Of most
transformers nothing comes of it that a look at single nodes does not give as well.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

_ATEN = torch.ops.aten
# What gives its first argument back, or a copy of it. Nothing is written into either, for nothing writes.
_SAME = {_ATEN.detach_.default, _ATEN.detach.default, _ATEN.alias.default}
_CONVERSIONS = {_ATEN.to.dtype, _ATEN.to.dtype_layout, _ATEN.to.device}
# Composite operators that ONNX has, and those that are another one under a second name.
_KNOWN_VIEWS = {_ATEN.reshape.default}
_OTHER_NAMES = {_ATEN.min.other: _ATEN.minimum.default, _ATEN.max.other: _ATEN.maximum.default}
# Composite operators whose result is a tensor of its own all the same.
_FRESH = {_ATEN.matmul.default, _ATEN.linear.default}
# Said of tensors, not computed.
_CHECKS = {
    _ATEN.sym_constrain_range_for_size.default,
    _ATEN._assert_async.default,
    _ATEN._assert_async.msg,
    _ATEN._assert_scalar.default,
    _ATEN._assert_tensor_metadata.default,
}


def make_functional(graph: Graph, known: Collection[Any]) -> str:
    """Rewrite `graph` until all its operators are `known` and none writes into a tensor, and drop what nothing reads.

    Where that takes more than a look at single nodes, `graph` stays as it was; what stands in the way is returned, and
    otherwise nothing.
    """
    called = [node for node in graph.nodes if node.op == "call_function" and node.target not in _CHECKS]
    others = [node for node in graph.nodes if node.op not in ("placeholder", "call_function", "output")]
    hard = others or [node for node in called if not (_is_same(node) or _target(node) in known)]
    if hard:
        return str(hard[0].target)
    for node in called:
        if _is_same(node) and any(user.op == "output" for user in node.users):
            node.target, node.args, node.kwargs = _ATEN.clone.default, node.args[:1], {}  # its name is in the signature
        elif _is_same(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif (target := _target(node)) is not node.target:
            _retarget(node, target)
    for node in [node for node in graph.nodes if node.target in _CHECKS]:
        graph.erase_node(node)
    graph.eliminate_dead_code()
    return ""


def _is_same(node: Node) -> bool:
    """Whether the value of `node` is that of its first argument."""
    if node.target in _CONVERSIONS:
        return bool(node.args[0].meta["val"].dtype == node.meta["val"].dtype)
    return node.target in _SAME or (node.target is _ATEN.dropout.default and not node.args[2])


def _target(node: Node) -> Any:
    """The operator to call at `node`, its own for most; None where that is not for one node to say."""
    target = node.target
    if target in _CONVERSIONS:
        return _ATEN._to_copy.default
    if target in _OTHER_NAMES:
        return _OTHER_NAMES[target]
    if target is _ATEN.contiguous.default:
        return _ATEN.clone.default
    if target is _ATEN.rsub.Scalar:
        keeps_type = node.args[0].meta["val"].dtype == node.meta["val"].dtype
        return _ATEN.sub.Tensor if keeps_type and len(node.args) == 2 and not node.kwargs else None
    if target is _ATEN.flatten.using_ints and node.args[0].meta["val"].ndim:
        return _ATEN.reshape.default
    if getattr(getattr(target, "_schema", None), "is_mutable", False):
        return _without_writing(node)
    # Decompositions leave no composite view, so that what the exporter would make of one is not known to be right.
    return None if _aliases(target) and _is_composite(target) and target not in _KNOWN_VIEWS else target


def _without_writing(node: Node) -> Any:
    """The operator that computes what `node` writes into its first argument; None where others can see it written."""
    written, target = node.args[0], node.target
    if not isinstance(written, Node) or len(written.users) > 1 or not _is_fresh(written.target):
        return None
    if any(argument.alias_info for argument in target._schema.arguments[1:]):
        return None
    packet = getattr(_ATEN, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
    return getattr(packet, target._overloadname, None)


def _is_fresh(target: Any) -> bool:
    """Whether the tensor that an operator gives is its own and no other's. Composite ones may give back what they were
    given without saying so, as dropout does.
    """
    trusted = isinstance(target, OpOverload) and not _is_composite(target) and not _aliases(target)
    return trusted or target in _FRESH


def _is_composite(target: Any) -> bool:
    kind = "CompositeImplicitAutograd"
    return isinstance(target, OpOverload) and torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), kind)


def _aliases(target: Any) -> bool:
    return isinstance(target, OpOverload) and any(result.alias_info for result in target._schema.returns)


def _retarget(node: Node, target: Any) -> None:
    """Call `target` at `node`, with the arguments that it takes for the same."""
    if node.target in _CONVERSIONS:
        node.args, node.kwargs = node.args[:1], {"dtype": node.meta["val"].dtype}
    elif node.target is _ATEN.contiguous.default:
        node.kwargs = {"memory_format": torch.contiguous_format}
    elif node.target is _ATEN.rsub.Scalar:
        node.args = (node.args[1], node.args[0])
    elif node.target is _ATEN.flatten.using_ints:
        node.args = (node.args[0], _flattened(node))
    node.target = target


def _flattened(node: Node) -> list[Any]:
    """The shape to which `node` flattens, its symbolic sizes read from the tensor."""
    given, *dims = node.args
    sizes = given.meta["val"].shape
    first, last = (dim % len(sizes) for dim in (*dims, *(0, -1)[len(dims) :]))
    kept = [place for place in range(len(sizes)) if not first <= place <= last]
    shape = {place: _size(node, given, place) for place in kept} | {first: -1}
    return [shape[place] for place in sorted(shape)]


def _size(node: Node, given: Node, place: int) -> Any:
    size = given.meta["val"].shape[place]
    if not isinstance(size, torch.SymInt):
        return size
    with node.graph.inserting_before(node):
        read = node.graph.call_function(_ATEN.sym_size.int, (given, place))
    read.meta = dict(node.meta) | {"val": size}
    return read
