"""A graph that was exported elsewhere: where it is, what is in it, and what is refused before anything is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError, PackageError
from modelbuild.exporter_spec import FileExporter
from modelbuild.graph import GraphFacts, read_graph
from modelbuild.spec import Opset
from modelbuild.stage_spec import GraphFiles
from modelbuild.suggest import closest

Digest = Callable[[Path], str]
_FOREIGN = {
    b"version https://git-lfs": ("a Git LFS pointer, not an ONNX file", "run 'git lfs pull'"),
    b"PK\x03\x04": ("an archive, as PyTorch writes it, not an ONNX file", "export the model to ONNX first"),
    b"\x80": ("a pickle, as PyTorch writes it, not an ONNX file", "export the model to ONNX first"),
}


@dataclass(frozen=True, kw_only=True)
class OwnGraph:
    """A graph that was exported elsewhere: the ONNX file on this machine, what was declared to be in it, and where the
    libraries of its custom operators are.
    """

    path: Path
    files: GraphFiles
    custom_ops: tuple[str, ...] = ()


def locate_graph(
    exporter: FileExporter, opset: Opset, digest: Digest, known_operators: Callable[[], AbstractSet[str]] | None = None
) -> GraphFiles:
    """Find the file of `exporter` and those that hold its weights, and check them: present, whole, inside its folder,
    at the asked opset.

    `digest` gives the sha256 of a file, `known_operators` those of other domains than ONNX's own that there are, where
    that can be told. Raises ExportError for everything that is wrong with them.
    """
    path = Path(exporter.path)
    facts = _read(path)
    if opset.version not in ("auto", facts.opsets[""]):
        raise ExportError(
            f"the file has opset {facts.opsets['']}, and opset={opset.version} was asked for",
            where=str(path),
            hint="take it as it is with opset=auto, or export it anew",
        )
    others = {operator for operator in facts.operators if "." in operator} - facts.functions
    if others and known_operators is not None:
        _require_operators(others - known_operators(), path)
    for name, size in facts.data_files.items():
        _require_whole(path, name, size)
    return GraphFiles(
        kind="file",
        graph=digest(path),
        data={name: digest(path.parent / name) for name in facts.data_files},
        inputs=exporter.inputs,
        outputs=exporter.outputs,
    )


def verify_graph(own: OwnGraph) -> None:
    """Raise ExportError unless the file and its data files still have the content that was declared."""
    expected = {own.path.name: own.files.graph} | dict(own.files.data)
    for name, digest in expected.items():
        path = own.path.parent / name
        if not path.is_file() or sha256_file(path) != digest:
            raise ExportError(f"{name} changed while it was being built", where=str(path), hint="run the build again")


def _read(path: Path) -> GraphFacts:
    _require_file(path)
    with path.open("rb") as stream:
        head = stream.read(32)
    for start, (what, hint) in _FOREIGN.items():
        if head.startswith(start):
            raise ExportError(what, where=str(path), hint=hint)
    try:
        facts = read_graph(path)
    except PackageError as error:
        raise ExportError(
            error.problems[0].what, where=str(path), hint="it may be cut short; fetch or export it again"
        ) from error
    if "" not in facts.opsets:
        raise ExportError("the file names no opset of the default domain", where=str(path), hint="export it again")
    return facts


def _require_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")])
        hint = f"did you mean '{inside[0]}'?" if inside else "give the .onnx file"
        raise ExportError("a folder, where an ONNX file is wanted", where=str(path), hint=hint)
    if not path.is_file():
        near = closest(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else None
        hint = f"did you mean '{path.parent / near}'?" if near else "check exporter.path"
        raise ExportError("no such file", where=str(path), hint=hint)


def _require_operators(unknown: AbstractSet[str], path: Path) -> None:
    if unknown:
        (domain, _, name), *more = (operator.rpartition(".") for operator in sorted(unknown))
        raise ExportError(
            f"ONNX Runtime has no operator '{name}' of the domain '{domain}'"
            + (f", and {len(more)} more" if more else ""),
            where=str(path),
            hint="name the library that has it: session.custom_ops=[…]",
        )


def _require_whole(graph: Path, name: str, size: int) -> None:
    """What onnx_ir would refuse to read, in words that say what to do: data elsewhere, links out of the folder, and
    hard links, which nobody can tell from the file that they were made of.
    """
    data = graph.parent / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ExportError(
            f"its weights are said to be in '{name}', which is outside its folder", where=str(graph), hint="refused"
        )
    if not data.is_file():
        raise ExportError(
            f"its weights are in '{name}', which is missing", where=str(graph), hint="put the file beside the graph"
        )
    inside = Path(os.path.realpath(data)).is_relative_to(os.path.realpath(graph.parent))
    if not inside or data.stat().st_nlink > 1:
        raise ExportError(
            "a link, where a file with weights is wanted",
            where=str(data),
            hint="copy graph and weights to another folder, with 'cp -L'",
        )
    if data.stat().st_size < size:
        raise ExportError(
            f"{data.stat().st_size} bytes, and the graph needs {size}",
            where=str(data),
            hint="it was cut short; fetch or export it again",
        )
