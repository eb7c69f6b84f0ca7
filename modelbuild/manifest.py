"""`manifest.json`: what is in a package, and how it was proven."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelbuild.digest import sha256_file, write_json
from modelbuild.errors import PackageError
from modelbuild.signature import Signature, signature_from_dict, signature_to_dict

FORMAT = 2
FILE_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of the package: its size in bytes and its sha256."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class GraphRecord:
    """One graph of the package: its file, and what it takes and gives.

    `limits` are the largest sizes of symbolic axes, where there are any (`{"sequence": 512}`), `may_be_empty` the axes
    that may have none, and `sums` those that are as long as others together (`{"total": ["past", "sequence"]}`).
    `steps` are what the sizes of axes must be multiples of, where that is not 1 (`{"height": 8}`).
    `opsets` maps operator domains to versions; `oldest_onnxruntime` is the oldest release known to load the file.
    `sizes` are those of the symbolic axes in the golden inputs.
    """

    file: str
    signature: Signature
    limits: Mapping[str, int]
    may_be_empty: tuple[str, ...]
    sums: Mapping[str, tuple[str, ...]]
    opsets: Mapping[str, int]
    ir_version: int
    oldest_onnxruntime: str
    hierarchy: Mapping[str, Any]
    sizes: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a package says of itself.

    `verified` is whether validation ran and passed. `graphs` are its graphs by name, in the order in which they run;
    one alone is called `model`. `providers` are `[name, options]` pairs in order; `session` holds the session settings;
    `source`, `build`, `tools`, `validation`, `benchmark` and `optimization`, by graph, are plain JSON for people and
    programs.
    """

    name: str
    task: str
    verified: bool
    graphs: Mapping[str, GraphRecord]
    providers: tuple[tuple[str, Mapping[str, Any]], ...]
    allow_fallback: bool
    session: Mapping[str, Any]
    source: Mapping[str, Any]
    build: Mapping[str, Any]
    tools: Mapping[str, str]
    validation: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    files: Mapping[str, FileRecord]
    optimization: Mapping[str, Any] = field(default_factory=dict)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json` into `folder`, whole or not at all."""
    values = {key: value for key, value in vars(manifest).items() if key not in ("graphs", "files", "providers")}
    write_json(
        folder / FILE_NAME,
        {
            "format": FORMAT,
            **values,
            "graphs": {name: _graph_to_dict(graph) for name, graph in manifest.graphs.items()},
            "providers": [[name, dict(options)] for name, options in manifest.providers],
            "files": {name: vars(record) for name, record in sorted(manifest.files.items())},
        },
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the package in `folder`. Raises PackageError when there is none, or it is damaged or newer."""
    path = folder / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PackageError("not a package: it has no manifest.json", where=str(folder)) from error
    except (OSError, ValueError) as error:
        raise PackageError(f"manifest.json cannot be read: {error}", where=str(folder)) from error
    return _decode(data, folder)


def _decode(data: Any, folder: Path) -> Manifest:
    try:
        if data["format"] > FORMAT:
            raise PackageError(
                f"the package has format {data['format']}, and this modelbuild reads up to {FORMAT}",
                where=str(folder),
                hint="upgrade modelbuild",
            )
        if data["format"] < FORMAT:
            raise PackageError(
                f"the package has format {data['format']}, from before packages could have several graphs",
                where=str(folder),
                hint="build it again",
            )
        graphs = {name: _graph_from_dict(graph) for name, graph in data["graphs"].items()}
        if not graphs:
            raise ValueError("it has no graphs")
        for graph in graphs.values():
            if graph.file not in data["files"]:
                raise ValueError(f"{graph.file!r} is not one of its files")
        values = {key: value for key, value in data.items() if key != "format"}
        return Manifest(
            **values
            | {
                "graphs": graphs,
                "providers": tuple((name, options) for name, options in data["providers"]),
                "files": {name: FileRecord(**record) for name, record in data["files"].items()},
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PackageError(f"manifest.json is damaged: {error!r}", where=str(folder)) from error


def _graph_to_dict(graph: GraphRecord) -> dict[str, Any]:
    return vars(graph) | {"signature": signature_to_dict(graph.signature)}


def _graph_from_dict(data: dict[str, Any]) -> GraphRecord:
    values = {
        "signature": signature_from_dict(data["signature"]),
        "may_be_empty": tuple(data["may_be_empty"]),
        "sums": {name: tuple(parts) for name, parts in data["sums"].items()},
    }
    return GraphRecord(**data | values)


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and sha256 of every file under `folder`, by its path relative to it. Raises PackageError for a link."""
    return {name: record_file(folder / name) for name in _file_names(folder) if name != FILE_NAME}


def record_file(path: Path) -> FileRecord:
    """Size and sha256 of one file."""
    return FileRecord(size_bytes=path.stat().st_size, sha256=sha256_file(path))


def verify_files(manifest: Manifest, folder: Path, *, digests: bool = True) -> None:
    """Raise PackageError, with every difference, unless `folder` holds exactly the files of `manifest`.

    Sizes are always compared; contents when `digests`.
    """
    present = set(_file_names(folder)) - {FILE_NAME}
    differences = [f"{name} is missing" for name in sorted(set(manifest.files) - present)]
    differences += [f"{name} does not belong to it" for name in sorted(present - set(manifest.files))]
    for name in sorted(present & set(manifest.files)):
        record, path = manifest.files[name], folder / name
        if path.stat().st_size != record.size_bytes:
            differences.append(f"{name} has {path.stat().st_size} bytes instead of {record.size_bytes}")
        elif digests and sha256_file(path) != record.sha256:
            differences.append(f"{name} has another content (sha256)")
    if differences:
        raise PackageError(
            f"the package is not what was built: {'; '.join(differences)}",
            where=str(folder),
            hint="build or fetch it again",
        )


def _file_names(folder: Path) -> list[str]:
    names = []
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise PackageError("a package holds only plain files", where=str(path))
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files]
    return sorted(names)
