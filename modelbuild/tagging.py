"""Giving nodes the tags that they lack, and counting them: after export, and after optimization.

Only the ONNX file is written, never the weights beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from modelbuild.hierarchy import Coverage, Hierarchy, Module
from modelbuild.node_tags import (
    INFERRED,
    NAME,
    VALUE,
    Tag,
    all_nodes,
    bodies,
    load_graph,
    read_tag,
    write_tag,
)
from modelbuild.scopes import tag_by_scope

if TYPE_CHECKING:
    import torch

# How many steps from a node with a tag one without may be to be given one. What is farther away is another matter.
_REACH = 4


def tag_exported(model: Path, module: torch.nn.Module) -> None:
    """Complete the tags of the exported file `model`.

    Where no node has one, names of nodes are read as TorchScript's scopes (see `scopes`). What is left, such as
    constants that the exporter folded, is inferred: it belongs to the deepest module that contains all of the nodes
    that it reads from and feeds.
    """
    proto = load_graph(model)
    before = proto.SerializeToString(deterministic=True)
    if not any(read_tag(node) for node in all_nodes(proto)):
        tag_by_scope(proto, module)
    _infer(proto)
    _write(proto, model, before)


def restore_tags(model: Path, exported: Path) -> None:
    """Give nodes of `model`, which was made of `exported`, their tags back.

    A node without a tag gets that of the node of `exported` that made the same value, for names of values survive
    fusions; else of the one with the same name and operator. Else it is inferred: it belongs to the deepest module that
    contains all to which its weights belong, or if it has none, all of the nodes that it reads from and feeds.
    """
    proto, original = load_graph(model), load_graph(exported)
    before = proto.SerializeToString(deterministic=True)
    known = _Known(original)
    for node in (node for body in bodies(proto.graph) for node in body.node if not read_tag(node)):
        tag = known.of(node)
        if tag:
            write_tag(node, tag)
    _infer(proto)
    _write(proto, model, before)


class _Known:
    """What an exported graph tells of the nodes that an optimizer made of it."""

    def __init__(self, exported: onnx.ModelProto) -> None:
        pairs = list(_tagged(exported.graph))
        self.makers = {name: tag for node, tag in pairs for name in node.output if name}
        self.named = {(node.name, node.op_type, node.domain): tag for node, tag in pairs if node.name}
        readers: dict[str, list[Tag]] = {tensor.name: [] for tensor in exported.graph.initializer}
        for node, tag in pairs:
            for name in readers.keys() & set(node.input):
                readers[name].append(tag)
        # A weight that several modules read, such as one that is tied, belongs to none of them alone.
        self.owners = {name: tags[0] for name, tags in readers.items() if len({tag.module for tag in tags}) == 1}

    def of(self, node: onnx.NodeProto) -> Tag | None:
        """The tag of a node by what it makes, its name, or its weights."""
        tag, source = next((self.makers[name] for name in node.output if name in self.makers), None), VALUE
        if tag is None:
            tag, source = self.named.get((node.name, node.op_type, node.domain)), NAME
        if tag is not None:
            return tag if tag.source == INFERRED else replace(tag, source=source)
        owners = [self.owners[name] for name in node.input if name in self.owners]
        return _containing(owners) if owners else None


def _tagged(root: Any) -> Iterator[tuple[onnx.NodeProto, Tag]]:
    pairs = ((node, read_tag(node)) for body in bodies(root) for node in body.node)
    return ((node, tag) for node, tag in pairs if tag)


def _write(proto: onnx.ModelProto, model: Path, before: bytes) -> None:
    after = proto.SerializeToString(deterministic=True)
    if after != before:
        model.write_bytes(after)


def _infer(proto: onnx.ModelProto) -> None:
    for root in (proto.graph, *proto.functions):
        surroundings = _Surroundings(root)
        for _ in range(_REACH):
            surroundings.step()
    _infer_bodies(proto)


class _Surroundings:
    """The nodes of a graph or function with its subgraphs, and what each reads from and feeds."""

    def __init__(self, root: Any) -> None:
        self.nodes = [node for body in bodies(root) for node in body.node]
        self.tags = {place: tag for place, node in enumerate(self.nodes) if (tag := read_tag(node))}
        makers: dict[str, list[int]] = {}
        for place, node in enumerate(self.nodes):
            for name in filter(None, node.output):
                makers.setdefault(name, []).append(place)
        self.around: list[set[int]] = [set() for _ in self.nodes]
        for place, node in enumerate(self.nodes):
            for maker in (maker for name in node.input for maker in makers.get(name, ())):
                self.around[place].add(maker)
                self.around[maker].add(place)

    def step(self) -> None:
        """Tag the nodes whose surroundings all have tags; where there are none, those that have any beside them."""
        left = [place for place in range(len(self.nodes)) if place not in self.tags]
        known = {place: [self.tags[near] for near in sorted(self.around[place]) if near in self.tags] for place in left}
        chosen = [place for place in left if known[place] and len(known[place]) == len(self.around[place])]
        for place in chosen or [place for place in left if known[place]]:
            self.tags[place] = _containing(known[place])
            write_tag(self.nodes[place], self.tags[place])


def _containing(tags: list[Tag]) -> Tag:
    """The deepest module that contains all that `tags` name."""
    shared = takewhile(lambda paths: len(set(paths)) == 1, zip(*(tag.scopes for tag in tags), strict=False))
    depth = sum(1 for _ in shared)
    classes = next((tag.classes[:depth] for tag in tags if tag.classes), ())
    return Tag(scopes=tags[0].scopes[:depth] or ("",), classes=classes, source=INFERRED)


def _infer_bodies(proto: onnx.ModelProto) -> None:
    """Nodes of a subgraph or a function that nothing else tells belong to where it is run."""
    functions = {(function.domain, function.name): function for function in proto.functions}
    callers: dict[tuple[str, str], list[Tag]] = {}
    for node, tag in [pair for root in (proto.graph, *proto.functions) for pair in _tagged(root)]:
        callers.setdefault((node.domain, node.op_type), []).append(tag)
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _tag_rest(graph, [tag])
    for key in functions.keys() & callers.keys():
        _tag_rest(functions[key], callers[key])


def _tag_rest(root: Any, callers: list[Tag]) -> None:
    tag = _containing(callers)
    for node in (node for body in bodies(root) for node in body.node if not read_tag(node)):
        write_tag(node, tag)


@dataclass(frozen=True, kw_only=True)
class _Count:
    """The tags of a file: its coverage, the nodes of each module, and the class of each that says so."""

    coverage: Coverage
    nodes: Counter[str]
    classes: Mapping[str, str]


def _count(model: Path, known: Collection[str]) -> _Count:
    """The tags in the file `model`. Where modules are `known`, those that name others do not count."""
    tags = [read_tag(node) for node in all_nodes(load_graph(model))]
    found = [tag for tag in tags if tag]
    counted = [tag for tag in found if not known or tag.module in known]
    classes = {
        path: name.rpartition(".")[2]
        for tag in counted
        for path, name in zip(tag.scopes, tag.classes or [""] * len(tag.scopes), strict=True)
    }
    return _Count(
        coverage=Coverage(
            nodes=len(tags),
            tagged_nodes=len(counted),
            tags=dict(sorted(Counter(tag.source for tag in found).items())),
        ),
        nodes=Counter(tag.module for tag in counted),
        classes=classes,
    )


def read_hierarchy(model: Path, strategy: str, module: torch.nn.Module | None = None) -> Hierarchy:
    """The module tree of the ONNX file `model`: all modules of the PyTorch `module`; without it those that tags name,
    and no parameters. Raises PackageError when the file cannot be parsed.
    """
    modules = _modules_of(module) if module is not None else {}
    found = _count(model, modules)
    if module is None:
        modules = {path: Module(class_name=found.classes[path]) for path in sorted(found.classes)}
    # A module that is in two places is listed in the first, and in others where nodes name them.
    first = {path for path, _ in module.named_modules()} if module is not None else set(modules)
    modules = {
        path: replace(item, nodes=found.nodes[path])
        for path, item in modules.items()
        if path in first or found.nodes[path]
    }
    return Hierarchy(strategy=strategy, exported=found.coverage, modules=modules)


def ship(hierarchy: Hierarchy, model: Path) -> Hierarchy:
    """`hierarchy` with what the file `model`, which was made of the exported one and ships, still says."""
    found = _count(model, hierarchy.modules)
    modules = {path: replace(item, shipped_nodes=found.nodes[path]) for path, item in hierarchy.modules.items()}
    return replace(hierarchy, shipped=found.coverage, modules=modules)


def _modules_of(module: torch.nn.Module) -> dict[str, Module]:
    """Every module by path, one that is in two places by both; parameters are counted where they are first."""
    seen: set[int] = set()
    found = {}
    for path, item in module.named_modules(remove_duplicate=False):
        own = [parameter for parameter in item.parameters(recurse=False) if id(parameter) not in seen]
        seen |= {id(parameter) for parameter in own}
        found[path] = Module(class_name=type(item).__name__, parameters=sum(parameter.numel() for parameter in own))
    return found
