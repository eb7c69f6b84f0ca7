"""A package for people at a terminal: what it is, what its graphs take and give, and the tree of their modules."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from modelbuild.hierarchy import Hierarchy
from modelbuild.manifest import GraphRecord, Manifest
from modelbuild.signature import TensorSpec

_WIDE = 240


def print_package(
    manifest: Manifest,
    graphs: Iterable[tuple[str, GraphRecord, Hierarchy]],
    libraries: Sequence[str] = (),
    depth: int | None = None,
) -> None:
    """The package with its `libraries` of native code, and each graph with `depth` levels of modules below the model
    itself, or all.
    """
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False)
    status = manifest.validation.get("status")
    verified = f"verified{f' ({status})' if status else ''}" if manifest.verified else "UNVERIFIED"
    console.print(Text.assemble((manifest.name, "bold"), f"  {manifest.task}  ", (verified, "bold")))
    console.print(Text(f"source: {_source(manifest.source)}"))
    console.print(Text(f"providers: {', '.join(name for name, _ in manifest.providers)}"))
    if libraries:
        console.print(Text(f"native code: {', '.join(libraries)}"))
    for name, record, hierarchy in graphs:
        console.print()
        console.print(Text(name, style="bold"))
        console.print(Text(f"  {_file(record)}"))
        for kind, tensors in (("takes", record.signature.inputs), ("gives", record.signature.outputs)):
            for tensor in tensors:
                console.print(Text(f"  {kind} {_tensor(tensor, record.limits)}"))
        console.print(Text(f"  {_coverage(hierarchy)}"))
        if hierarchy.modules:
            console.print(_tree(hierarchy, depth))


def _source(source: Any) -> str:
    plain = {key: value for key, value in source.items() if isinstance(value, str | int) and value != ""}
    return ", ".join(f"{key} {value}" for key, value in plain.items()) or "unknown"


def _file(record: GraphRecord) -> str:
    opsets = ", ".join(f"opset {domain or 'ai.onnx'} {version}" for domain, version in record.opsets.items())
    return f"{record.file}: {opsets}, ONNX Runtime {record.oldest_onnxruntime} or newer"


def _tensor(tensor: TensorSpec, limits: Mapping[str, int]) -> str:
    """Name, type and shape, with the largest size of an axis that has one."""
    axes = [f"{axis} ≤ {limits[axis]}" if isinstance(axis, str) and axis in limits else axis for axis in tensor.shape]
    return f"{tensor.name}: {tensor.dtype} ({', '.join(map(str, axes))})"


def _coverage(hierarchy: Hierarchy) -> str:
    exported, shipped = hierarchy.exported, hierarchy.shipped
    if not exported.tagged_nodes:
        return f"none of its {exported.nodes} nodes says which module it comes from"
    said = f"{exported.tagged_nodes} of {exported.nodes} exported nodes"
    said += f", {shipped.tagged_nodes} of {shipped.nodes} of those that ship" if shipped else ""
    astray = (shipped or exported).astray_nodes
    lost = f"; {astray} name a module that the model does not have" if astray > 0 else ""
    return f"{said} say which module they come from ({hierarchy.strategy}){lost}"


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
