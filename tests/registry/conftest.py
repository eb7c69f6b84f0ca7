"""Packages as small as they can be, which differ in one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from modelbuild.manifest import FileRecord, GraphRecord, Manifest, write_manifest
from modelbuild.package_files import record_files
from modelbuild.registry import Registry
from modelbuild.signature import Signature, TensorSpec

Make = Callable[..., Path]


def write_package(
    folder: Path,
    content: str = "0",
    *,
    verified: bool = True,
    limits: Mapping[str, int] = MappingProxyType({}),
    task: str = "feature-extraction",
) -> Path:
    """A folder with a file of that content and a manifest that says so."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text(content)
    files: dict[str, FileRecord] = record_files(folder)
    tensor = TensorSpec(name="x", dtype="float32", shape=("batch",))
    graph = GraphRecord(
        file="model.onnx", signature=Signature(inputs=(tensor,), outputs=(tensor,)), limits=dict(limits),
        may_be_empty=(), sums={}, opsets={"": 18}, ir_version=8, oldest_onnxruntime="1.14", hierarchy={},
    )  # fmt: skip
    manifest = Manifest(
        name="tiny", task=task, verified=verified, graphs={"model": graph}, providers=(("cpu", {}),),
        allow_fallback=False, session={}, source={}, build={"exporter": {"kind": "dynamo"}}, tools={"torch": "2.13.0"},
        validation={"status": "strict", "passed": True, "checks": {"weights": "weights: 0"}},
        benchmark={"status": "off"}, files=files,
    )  # fmt: skip
    write_manifest(replace(manifest), folder)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Make:
    """Make a package of that content in a new folder."""
    made = iter(range(1000))
    return lambda content="0", **options: write_package(tmp_path / f"package{next(made)}", content, **options)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry in which nothing was published."""
    return Registry(tmp_path / "registry")
