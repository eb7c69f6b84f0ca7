"""A package for people at a terminal: what it is, what its graphs take and give, and the tree of their modules."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from modelbuild.hierarchy import Hierarchy
from modelbuild.manifest import Manifest
from modelbuild.signature import Signature, TensorSpec

_WIDE = 240


def print_package(
    manifest: Manifest, graphs: Iterable[tuple[str, Signature, Hierarchy]], depth: int | None = None
) -> None:
    """The package, and each graph with `depth` levels of modules below the model itself, or all."""
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False)
    status = manifest.validation.get("status")
    verified = f"verified{f' ({status})' if status else ''}" if manifest.verified else "UNVERIFIED"
    console.print(Text.assemble((manifest.name, "bold"), f"  {manifest.task}  ", (verified, "bold")))
    console.print(Text(f"source: {_source(manifest.source)}"))
    for name, signature, hierarchy in graphs:
        console.print()
        console.print(Text(name, style="bold"))
        for kind, tensors in (("takes", signature.inputs), ("gives", signature.outputs)):
            for tensor in tensors:
                console.print(Text(f"  {kind} {_tensor(tensor)}"))
        console.print(Text(f"  {_coverage(hierarchy)}"))
        if hierarchy.modules:
            console.print(_tree(hierarchy, depth))


def _source(source: Any) -> str:
    plain = {key: value for key, value in source.items() if isinstance(value, str | int) and value != ""}
    return ", ".join(f"{key} {value}" for key, value in plain.items()) or "unknown"


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name}: {tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def _coverage(hierarchy: Hierarchy) -> str:
    exported, shipped = hierarchy.exported, hierarchy.shipped
    if not exported.tagged_nodes:
        return f"none of its {exported.nodes} nodes says which module it comes from"
    said = f"{exported.tagged_nodes} of {exported.nodes} exported nodes"
    said += f", {shipped.tagged_nodes} of {shipped.nodes} of those that ship" if shipped else ""
    return f"{said} say which module they come from ({hierarchy.strategy})"


def _tree(hierarchy: Hierarchy, depth: int | None) -> Tree:
    parents, depths, sums = hierarchy.parents(), hierarchy.depths(), hierarchy.with_children()
    total = max(1, sums[""].parameters)

    def label(path: str, name: str) -> Text:
        own, nodes = hierarchy.nodes_of(hierarchy.modules[path]), hierarchy.nodes_of(sums[path])
        counted = ("1 node" if nodes == 1 else f"{nodes} nodes") + (f", {own} of its own" if own != nodes else "")
        share = 100 * sums[path].parameters / total
        said = f"{sums[path].class_name or '?'}  {counted}, {share:.1f} % of parameters"
        return Text.assemble((f"{name}  " if name else "", "bold"), said)

    branches = {"": Tree(label("", ""))}
    for path, parent in sorted(parents.items(), key=lambda item: depths[item[0]]):
        if depth is None or depths[path] <= depth:
            branches[path] = branches[parent].add(label(path, path.removeprefix(f"{parent}.")))
    return branches[""]
