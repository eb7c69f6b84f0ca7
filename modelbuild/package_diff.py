"""What is different between two packages: graphs, weights, configuration, tools, parity, latency, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelbuild.graph_diff import Changes, GraphChanges, Pair, changes, diff_graphs, leaves
from modelbuild.manifest import FILE_NAME, Manifest
from modelbuild.package_files import verify_package


@dataclass(frozen=True, kw_only=True)
class PackageDiff:
    """Everything in which two packages differ; what is the same is left out. `removed` and `added` are graphs that one
    side alone has. `latency` has the medians in ms by case, of all cases that both have, and `hosts` the machines, if
    they are two.
    """

    names: Pair
    graphs: Mapping[str, GraphChanges]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    config: Changes
    tools: Changes
    parity: Changes
    latency: Mapping[str, tuple[float, float]]
    hosts: Changes = field(default_factory=dict)
    files: Changes = field(default_factory=dict)
    size_bytes: tuple[int, int] = (0, 0)

    @property
    def same(self) -> bool:
        """Whether every file has the same content."""
        return not self.files


def diff(before: Path, after: Path) -> PackageDiff:
    """What is different in the package `after` from the package `before`. Raises PackageError where one of the two is
    none or not what was built, or its graphs cannot be read.
    """
    first, second = verify_package(before), verify_package(after)
    both = [name for name in first.graphs if name in second.graphs]
    return PackageDiff(
        names=(first.name, second.name),
        graphs={name: diff_graphs(before, first.graphs[name], after, second.graphs[name]) for name in both},
        removed=tuple(name for name in first.graphs if name not in both),
        added=tuple(name for name in second.graphs if name not in both),
        config=changes(_config(first), _config(second)),
        tools=changes(first.tools, second.tools),
        parity=changes(_parity(first), _parity(second)),
        latency=_latency(first, second),
        hosts=changes(first.benchmark.get("host", {}), second.benchmark.get("host", {})),
        files=_files(first, second, before, after),
        size_bytes=(_size(first), _size(second)),
    )


def _config(manifest: Manifest) -> dict[str, Any]:
    """The build, the session and the providers by dotted keys."""
    return {
        **dict(leaves({"task": manifest.task, "build": manifest.build, "source": manifest.source})),
        **dict(leaves({"session": manifest.session})),
        "providers": [name for name, _ in manifest.providers],
    }


def _parity(manifest: Manifest) -> dict[str, Any]:
    checks = manifest.validation.get("checks", {})
    return {"status": manifest.validation.get("status"), "verified": manifest.verified, **checks}


def _latency(first: Manifest, second: Manifest) -> dict[str, tuple[float, float]]:
    cases = [manifest.benchmark.get("cases", {}) for manifest in (first, second)]
    return {
        name: (cases[0][name]["onnxruntime"]["p50_ms"], cases[1][name]["onnxruntime"]["p50_ms"])
        for name in cases[0]
        if name in cases[1] and all("onnxruntime" in case[name] for case in cases)
    }


def _files(first: Manifest, second: Manifest, before: Path, after: Path) -> Changes:
    """The sizes of files that are not the same on both sides; those of one size may have another content."""
    names = dict.fromkeys([*first.files, *second.files])
    found: Changes = {
        name: (_bytes(first, name), _bytes(second, name))
        for name in names
        if first.files.get(name) != second.files.get(name)
    }
    texts = [(folder / FILE_NAME).read_bytes() for folder in (before, after)]
    return found | ({FILE_NAME: (len(texts[0]), len(texts[1]))} if texts[0] != texts[1] else {})


def _bytes(manifest: Manifest, name: str) -> int | None:
    return manifest.files[name].size_bytes if name in manifest.files else None


def _size(manifest: Manifest) -> int:
    return sum(record.size_bytes for record in manifest.files.values())
