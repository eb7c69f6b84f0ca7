"""`manifest.json`: what is in a package, and how it was proven."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelbuild.digest import write_text
from modelbuild.errors import PackageError
from modelbuild.kinds import require_kinds
from modelbuild.signature import Signature, signature_from_dict, signature_to_dict

FORMAT = 3
FILE_NAME = "manifest.json"
NOT_AS_WRITTEN = f"{FILE_NAME} is not what was written (its own sha256)"
_ENCODED = ("graphs", "files", "providers", "digest")
# Stands in the place of the manifest's own digest while that is computed.
_UNSEALED = "0" * 64


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
    `steps` are what the sizes of axes must be multiples of, where that is not 1 (`{"height": 8}`), and `ids` how many
    ids there are for an input that has them (`{"input_ids": 30522}`).
    `opsets` maps operator domains to versions; `oldest_onnxruntime` is the oldest release known to load the file.
    `sizes` are those of the symbolic axes in the golden inputs. `tied_to` is the kind of machine (`x86_64 avx512f`)
    that a file is for whose weights lie as that one wants them; most files run anywhere, and have none. `batch` is the
    axis of rows that do not depend on each other, if there is one.
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
    ids: Mapping[str, int] = field(default_factory=dict)
    tied_to: str = ""
    batch: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a package says of itself.

    `verified` is whether validation ran and passed. `graphs` are its graphs by name, in the order in which they run;
    one alone is called `model`. `providers` are `[name, options]` pairs in order; `session` holds the session settings;
    `built_on` is the machine where the golden outputs were computed; `digest` the sha256 of the file that it was read
    from; `source`, `build`, `tools`, `validation`, `benchmark` and `optimization`, by graph, are plain JSON for people
    and programs.
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
    built_on: Mapping[str, str] = field(default_factory=dict)
    digest: str = field(default="", compare=False)

    def takes_and_gives(self) -> Mapping[str, object]:
        """What a program that runs it relies on: the task, and of each graph the tensors and the limits."""
        parts = ("signature", "limits", "may_be_empty", "sums", "steps", "ids")
        graphs = {name: [getattr(graph, part) for part in parts] for name, graph in self.graphs.items()}
        return {"task": self.task, **graphs}


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json` into `folder`, whole or not at all, with its own digest."""
    values = {key: value for key, value in vars(manifest).items() if key not in _ENCODED}
    write_text(
        folder / FILE_NAME,
        sealed(
            {
                "format": FORMAT,
                **values,
                "graphs": {name: _graph_to_dict(graph) for name, graph in manifest.graphs.items()},
                "providers": [[name, dict(options)] for name, options in manifest.providers],
                "files": {name: vars(record) for name, record in sorted(manifest.files.items())},
            }
        ),
    )


def sealed(values: Mapping[str, Any]) -> str:
    """The text of a manifest. Its `sha256` is that of the text in which 64 zeros stand for it: whoever edits one byte
    of it by accident, or forgets to seal it again, is found out. Against somebody who means it only a signature helps.
    """
    data = {"format": values["format"], "sha256": _UNSEALED} | {k: v for k, v in values.items() if k != "sha256"}
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    return text.replace(_UNSEALED, _sha256(text), 1)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the package in `folder`. Raises PackageError when there is none, or it is damaged or newer."""
    manifest, as_written = examine_manifest(folder)
    if not as_written:
        raise PackageError(NOT_AS_WRITTEN, where=str(folder), hint="build or fetch it again")
    return manifest


def examine_manifest(folder: Path) -> tuple[Manifest, bool]:
    """The manifest of the package in `folder`, and whether it is what was written, by its own digest. Raises
    PackageError when there is none, or it makes no sense or is newer.
    """
    path = folder / FILE_NAME
    if path.exists() and not path.is_file():  # a pipe would never end
        raise PackageError("manifest.json is no file", where=str(folder), hint="build or fetch it again")
    try:
        text = path.read_bytes().decode()
        data = json.loads(text)
    except FileNotFoundError as error:
        raise PackageError("not a package: it has no manifest.json", where=str(folder)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise PackageError(f"manifest.json cannot be read: {error}", where=str(folder)) from error
    manifest = _decode(data, folder)
    own = str(data["sha256"])
    manifest = replace(manifest, digest=_sha256(text))
    return manifest, _sha256(text.replace(own, _UNSEALED, 1)) == own


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
                f"the package has format {data['format']}, and this modelbuild reads {FORMAT}",
                where=str(folder),
                hint="build it again",
            )
        graphs = {name: _graph_from_dict(graph) for name, graph in data["graphs"].items()}
        if not graphs:
            raise ValueError("it has no graphs")
        for graph in graphs.values():
            if graph.file not in data["files"]:
                raise ValueError(f"{graph.file!r} is not one of its files")
        if not all(isinstance(name, str) and isinstance(options, dict) for name, options in data["providers"]):
            raise ValueError("its providers are no names with options")
        require_kinds(Manifest, data)
        values = {key: value for key, value in data.items() if key not in ("format", "sha256")}
        if not isinstance(data["sha256"], str) or len(data["sha256"]) != len(_UNSEALED):
            raise ValueError("its sha256 has not 64 digits")
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
    require_kinds(GraphRecord, data)
    values = {
        "signature": signature_from_dict(data["signature"]),
        "may_be_empty": tuple(data["may_be_empty"]),
        "sums": {name: tuple(parts) for name, parts in data["sums"].items()},
    }
    return GraphRecord(**data | values)
