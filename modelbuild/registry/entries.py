"""What a registry says of a version: what is in the package, how it was proven, and how fast it is where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelbuild.errors import PackageError
from modelbuild.kinds import require_kinds
from modelbuild.manifest import Manifest

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One version of a model, as it was published; it never changes.

    `digest` is the sha256 of the package's manifest, which has those of all its files, and `size_bytes` that of all
    files. `build` is the configuration of the export, `parity` the checks that passed, `performance` the figures of the
    machine that built it. `published` is when, in UTC.
    """

    name: str
    version: str
    digest: str
    size_bytes: int
    published: str
    task: str
    build: Mapping[str, Any]
    opsets: Mapping[str, Mapping[str, int]]
    oldest_onnxruntime: str
    tools: Mapping[str, str]
    parity: Mapping[str, Any]
    performance: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """The entry that `to_dict` gave. Raises PackageError for one of a newer format, and KeyError or TypeError for
        anything else.
        """
        values = dict(data)
        found = values.pop("format")
        if isinstance(found, int) and found > FORMAT:
            what = f"{data.get('name')} {data.get('version')} has format {found}, and this modelbuild reads {FORMAT}"
            raise PackageError(what, hint="upgrade modelbuild")
        require_kinds(cls, values)
        return cls(**values)


def describe(manifest: Manifest, *, name: str, version: str, digest: str, published: str) -> Entry:
    """The entry of a package by its manifest."""
    graphs = manifest.graphs
    return Entry(
        name=name,
        version=version,
        digest=digest,
        size_bytes=sum(record.size_bytes for record in manifest.files.values()),
        published=published,
        task=manifest.task,
        build=manifest.build,
        opsets={graph: dict(record.opsets) for graph, record in graphs.items()},
        oldest_onnxruntime=max(
            (record.oldest_onnxruntime for record in graphs.values()),
            key=lambda release: tuple(int(part) for part in release.split(".") if part.isdecimal()),
        ),
        tools=manifest.tools,
        parity=manifest.validation,
        performance=manifest.benchmark,
    )
