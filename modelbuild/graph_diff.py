"""What is different between two graphs of packages: signatures, operators, attributes, weights."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from modelbuild.errors import PackageError
from modelbuild.graph import DEFAULT_DOMAIN, node_type
from modelbuild.manifest import GraphRecord
from modelbuild.signature import TensorSpec

# A value on either side; None where there is none.
Pair = tuple[Any, Any]
Changes = dict[str, Pair]
_TOLD_OTHERWISE = ("file", "hierarchy", "signature", "opsets")


@dataclass(frozen=True, kw_only=True)
class WeightChanges:
    """The weights of two graphs: how many tensors have the same content, whatever they are called; which of one name
    have another, by how much at most where they can be subtracted; and those that one side alone has.
    """

    same: int
    changed: Mapping[str, float | None]
    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GraphChanges:
    """One graph on both sides: what is said of it, its inputs and outputs, operators by how many there are, those of
    one kind with other attributes (`Gather(axis=1)`), and weights.
    """

    facts: Changes
    tensors: Changes
    operators: Changes
    attributes: Changes
    weights: WeightChanges


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """What is not the same in two mappings, by the keys of both, in the order in which they come."""
    return {
        key: (before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    }


def leaves(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    """What is inside nested mappings, by dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def diff_graphs(before: Path, first: GraphRecord, after: Path, second: GraphRecord) -> GraphChanges:
    """What is different in the graph `second` of the package `after` from `first` of `before`. Raises PackageError
    where one cannot be read.
    """
    models = [_read(before / first.file), _read(after / second.file)]
    nodes = [[*_nodes(model)] for model in models]
    operators = [Counter(map(_operator, side)) for side in nodes]
    on_both = operators[0].keys() & operators[1].keys()
    forms = [Counter(_form(node) for node in side if node.attributes and _operator(node) in on_both) for side in nodes]
    return GraphChanges(
        facts=changes(_facts(first), _facts(second)),
        tensors=changes(_tensors(first), _tensors(second)),
        operators=_counts(*operators),
        attributes=_counts(*forms),
        weights=_weights(*models),
    )


def _facts(record: GraphRecord) -> dict[str, Any]:
    opsets = {f"opsets.{domain or DEFAULT_DOMAIN}": version for domain, version in record.opsets.items()}
    rest = {key: value for key, value in vars(record).items() if key not in _TOLD_OTHERWISE}
    return opsets | dict(leaves(rest))


def _counts(before: Mapping[str, int], after: Mapping[str, int]) -> Changes:
    return {name: (old or 0, new or 0) for name, (old, new) in sorted(changes(before, after).items())}


def _read(file: Path) -> ir.Model:
    try:
        return ir.load(file)
    except Exception as error:
        raise PackageError(f"the graph cannot be read: {error}", where=str(file)) from error


def _nodes(model: ir.Model) -> Iterable[ir.Node]:
    """The nodes of the graph, of those inside it and of the functions that the file defines."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _operator(node: ir.Node) -> str:
    return node_type(node.domain, node.op_type)


def _form(node: ir.Node) -> str:
    """A kind of node with its attributes: tensors by their content; the nodes of graphs are counted by themselves."""
    told = ", ".join(f"{name}={_told(attribute)}" for name, attribute in sorted(node.attributes.items()))
    return f"{_operator(node)}({told})"


def _told(attribute: ir.Attr) -> str:
    value = attribute.value
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "a graph"
    if attribute.type == ir.AttributeType.TENSOR:
        return f"{value.dtype}{list(value.shape)} {_digest(value)[:8]}"
    return str(list(value) if isinstance(value, tuple) else value)


def _tensors(record: GraphRecord) -> dict[str, str]:
    signature = record.signature
    return {f"input {tensor.name}": _tensor(tensor) for tensor in signature.inputs} | {
        f"output {tensor.name}": _tensor(tensor) for tensor in signature.outputs
    }


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def _weights(before: ir.Model, after: ir.Model) -> WeightChanges:
    """Compare what the files hold, a tensor at a time: they are mapped, and not read as a whole."""
    first, second = _initializers(before.graph), _initializers(after.graph)
    digests = [{name: _digest(value) for name, value in side.items()} for side in (first, second)]
    contents = [set(side.values()) for side in digests]
    changed = [name for name in first if name in second and digests[0][name] != digests[1][name]]
    return WeightChanges(
        same=sum(digest in contents[1] for name, digest in digests[0].items() if name not in changed),
        changed={name: _distance(first[name], second[name]) for name in changed},
        removed=tuple(name for name in first if name not in second and digests[0][name] not in contents[1]),
        added=tuple(name for name in second if name not in first and digests[1][name] not in contents[0]),
    )


def _initializers(graph: ir.Graph, inside: str = "") -> dict[str, ir.TensorProtocol]:
    """Those of a graph and of the graphs inside it, whose names begin with the output and the attribute of the node
    that has them: two branches may call theirs the same.
    """
    values = graph.initializers.items()
    found = {f"{inside}{name}": value.const_value for name, value in values if value.const_value is not None}
    for node in graph:
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                found |= _initializers(attribute.value, f"{inside}{node.outputs[0].name}.{name}.")
    return found


def _digest(tensor: ir.TensorProtocol) -> str:
    head = f"{tensor.dtype}{list(tensor.shape)}".encode()
    content = repr(list(tensor.string_data())).encode() if isinstance(tensor, ir.StringTensor) else tensor.tobytes()
    return hashlib.sha256(head + content).hexdigest()


def _distance(first: ir.TensorProtocol, second: ir.TensorProtocol) -> float | None:
    """The largest distance of two values; None where there is none: between shapes, types, words, infinities."""
    if first.dtype != second.dtype or list(first.shape) != list(second.shape):
        return None
    arrays = [np.asarray(tensor.numpy()) for tensor in (first, second)]
    if any(array.dtype.kind not in "fiu" for array in arrays):
        return None
    differs = arrays[0] != arrays[1]
    wide = [array[differs].astype(np.float64) for array in arrays]
    if not all(np.isfinite(side).all() for side in wide):
        return None
    return float(np.max(np.abs(wide[0] - wide[1]), initial=0.0))
