"""`python -m modelbuild inspect PACKAGE`: what a package is, and the modules that its graphs are made of."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.errors import HostError, PackageError
from modelbuild.hierarchy import Hierarchy
from modelbuild.manifest import GraphRecord, Manifest, read_manifest
from modelbuild.package_folder import package_folder
from modelbuild.signature import signature_to_dict

Graphs = list[tuple[str, GraphRecord, Hierarchy]]


def run(words: list[str]) -> int:
    """Print the package in the folder that `words` name. Returns 0.

    Raises PackageError when there is no such folder, or no package in it, or its manifest is damaged.
    """
    chosen = _chosen(words)
    folder = package_folder(chosen.package)
    manifest = read_manifest(folder)
    graphs = _graphs(manifest, folder)
    libraries = _libraries(manifest, folder)
    if chosen.json:
        print(json.dumps(_plain(manifest, graphs, libraries, chosen.depth), indent=2))
        return 0
    _printer()(manifest, graphs, libraries, chosen.depth)
    return 0


def _printer() -> Callable[[Manifest, Graphs, list[str], int | None], None]:
    try:  # only now, for rich is not where packages are deployed, and --json does without
        from modelbuild.render.tree import print_package
    except ModuleNotFoundError as error:
        if str(error.name).startswith("modelbuild"):
            raise
        hint = "add --json, or pip install 'modelbuild[build,cpu]' (or [build,gpu])"
        raise HostError(f"'{error.name}' is not installed", where=sys.executable, hint=hint) from error
    return print_package


def _chosen(words: list[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m modelbuild inspect", description=__doc__)
    parser.add_argument("package", metavar="PACKAGE", help=PACKAGE)
    parser.add_argument("--depth", type=int, metavar="N", help="show so many levels of modules below the model")
    parser.add_argument("--json", action="store_true", help="print it for programs")
    chosen = parser.parse_args(words)
    if chosen.depth is not None and chosen.depth < 0:
        parser.error(f"argument --depth: {chosen.depth} is below 0")
    return chosen


def _graphs(manifest: Manifest, folder: Path) -> Graphs:
    """The graphs of a package: name, record, modules."""
    try:
        return [(name, graph, Hierarchy.of_facts(graph.hierarchy)) for name, graph in manifest.graphs.items()]
    except PackageError as error:
        raise PackageError(f"manifest.json is damaged: {error.problems[0].what}", where=str(folder)) from error


def _libraries(manifest: Manifest, folder: Path) -> list[str]:
    """The libraries of custom operators in a package: native code, which whoever opens it runs."""
    found = manifest.session.get("custom_ops", [])
    if not isinstance(found, list):
        raise PackageError("manifest.json is damaged: the session's custom_ops are no list", where=str(folder))
    return [str(name) for name in found]


def _plain(manifest: Manifest, graphs: Graphs, libraries: list[str], depth: int | None) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "task": manifest.task,
        "source": dict(manifest.source),
        "verified": manifest.verified,
        "validation": manifest.validation.get("status"),
        "providers": [{"name": name, "options": dict(options)} for name, options in manifest.providers],
        "custom_ops": libraries,
        "graphs": {name: _graph(record) | _modules(hierarchy, depth) for name, record, hierarchy in graphs},
    }


def _graph(record: GraphRecord) -> dict[str, Any]:
    return {
        "file": record.file,
        "opsets": dict(record.opsets),
        "oldest_onnxruntime": record.oldest_onnxruntime,
        **signature_to_dict(record.signature),
        "limits": dict(record.limits),
        "may_be_empty": list(record.may_be_empty),
        "sums": {name: list(parts) for name, parts in record.sums.items()},
        "steps": dict(record.steps),
    }


def _modules(hierarchy: Hierarchy, depth: int | None) -> dict[str, Any]:
    own, sums, depths = hierarchy.modules, hierarchy.with_children(), hierarchy.depths()
    coverage = {"exported": hierarchy.exported, "shipped": hierarchy.shipped}
    return {
        "strategy": hierarchy.strategy,
        "coverage": {
            name: {
                "nodes": found.nodes,
                "tagged_nodes": found.tagged_nodes,
                "share": found.share,
                "astray_nodes": found.astray_nodes,
            }
            for name, found in coverage.items()
            if found
        },
        "module_types": hierarchy.module_types(),
        "modules": {
            path: {
                "class": module.class_name,
                "nodes": hierarchy.nodes_of(module),
                "nodes_with_children": hierarchy.nodes_of(sums[path]),
                "parameters": module.parameters,
                "parameters_with_children": sums[path].parameters,
            }
            for path, module in own.items()
            if depth is None or depths[path] <= depth
        },
    }
