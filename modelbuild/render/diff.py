"""The difference between two packages, for people at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from modelbuild.errors import listed
from modelbuild.graph_diff import GraphChanges, Pair, WeightChanges
from modelbuild.package_diff import PackageDiff

_WIDE, _SHOWN = 240, 8
_MIB = 1 << 20


def print_diff(found: PackageDiff, before: str, after: str) -> None:
    """Print what differs, section by section, between what the user calls `before` and `after`; one line where nothing
    does.
    """
    if found.same:
        print(f"{before} and {after} are the same, file by file")
        return
    table = Table(box=None, show_edge=False, pad_edge=False)
    for name in ("", "", f"A {before}", f"B {after}"):
        table.add_column(name, overflow="fold")
    for row in _rows(found):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDE, markup=False).print(table)


def _rows(found: PackageDiff) -> Iterable[tuple[str, str, str, str]]:
    yield "size", "all files", *(f"{size / _MIB:.1f} MiB" for size in found.size_bytes)  # type: ignore[misc]
    for name in found.removed:
        yield "graph", name, "is there", "-"
    for name in found.added:
        yield "graph", name, "-", "is there"
    for name, graph in found.graphs.items():
        yield from _graph_rows(f"graph {name}", graph)
    for section in ("config", "tools", "parity"):
        yield from _pairs(section, getattr(found, section))
    for name, (before, after) in found.latency.items():
        yield "latency", f"{name} p50", f"{before:.3g} ms", f"{after:.3g} ms"
    yield from _pairs("host", found.hosts)
    for name, (old, new) in found.files.items():
        yield "bytes", name, _text(old), f"{_text(new)}{' of another content' if old == new else ''}"


def _graph_rows(section: str, graph: GraphChanges) -> Iterable[tuple[str, str, str, str]]:
    yield from _pairs(section, graph.facts)
    yield from _pairs(section, graph.tensors)
    yield from _pairs(section, {f"{name} nodes": pair for name, pair in graph.operators.items()})
    yield from _pairs(section, {f"{text} nodes": pair for text, pair in graph.attributes.items()})
    for text in _weights(graph.weights):
        yield section, "weights", *text


def _weights(found: WeightChanges) -> Iterable[tuple[str, str]]:
    yield f"{found.same} tensors have the same content", ""
    if found.changed:
        told = [name if by is None else f"{name} (by {by:.3g})" for name, by in found.changed.items()]
        yield f"{len(told)} have another", listed(told, _SHOWN)
    if found.removed:
        yield f"{len(found.removed)} only here", listed(found.removed, _SHOWN)
    if found.added:
        yield listed(found.added, _SHOWN), f"{len(found.added)} only here"


def _pairs(section: str, pairs: Mapping[str, Pair]) -> Iterable[tuple[str, str, str, str]]:
    for key, (before, after) in pairs.items():
        yield section, key, _text(before), _text(after)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
