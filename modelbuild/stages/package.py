"""package: the gate, and the folder that ships."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.graph import MODEL_FILE, WEIGHTS_FILE, installed_version, read_graph
from modelbuild.manifest import Manifest, record_file, record_files, write_manifest
from modelbuild.render.package import package_readme, report_html
from modelbuild.report import Report, read_report, require_passed
from modelbuild.runtime.load import GOLDEN_FILE, load
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import Limits, random_batch
from modelbuild.stage_spec import FolderFiles, PackageSpec

SPEC = PackageSpec
REPORT: str | None = None

_TOOLS = (
    "modelbuild", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "onnxscript", "optimum", "optimum-onnx",
    "safetensors", "tokenizers", "torch", "transformers",
)  # fmt: skip
_GOLDEN_BATCH, _GOLDEN_SEQUENCE = 2, 8


def run(spec: PackageSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Assemble the package in `out`, its manifest last, and open it as a user would.

    Raises ValidationError, and leaves nothing, when validation did not pass.
    """
    validation = read_report(inputs["validate"] / "validation.json")
    benchmark = read_report(inputs["benchmark"] / "benchmark.json")
    require_passed(validation)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        if (inputs["optimize"] / name).exists():
            shutil.copyfile(inputs["optimize"] / name, out / name)
    shutil.copytree(inputs["sidecar"], out, ignore=shutil.ignore_patterns("report.json"), dirs_exist_ok=True)
    facts = read_report(inputs["optimize"] / "report.json").facts
    _write_golden(spec, facts["limits"], out)
    manifest = _manifest(spec, facts, validation, benchmark, out)
    documents = {"README.md": package_readme, "report.html": report_html}
    for name, document in documents.items():
        (out / name).write_text(document(manifest, validation, benchmark), encoding="utf-8")
    files = dict(manifest.files) | {name: record_file(out / name) for name in documents}
    write_manifest(replace(manifest, files=files), out)
    load(out)
    return Report(stage="package", facts={"verified": manifest.verified, "files": len(files)})


def _write_golden(spec: PackageSpec, limits: Mapping[str, int], out: Path) -> None:
    """Inputs and the outputs they gave here, which the runtime replays wherever the package is opened."""
    names = [tensor.name for tensor in read_graph(out / MODEL_FILE).signature.inputs]
    sizes = Limits.of_facts(limits)
    length = min(_GOLDEN_SEQUENCE, sizes.max_positions)
    batch = random_batch(names, sizes, batch=_GOLDEN_BATCH, sequence=length, mask="right", rng=np.random.default_rng(0))
    session = open_session(
        out / MODEL_FILE,
        providers=spec.build.providers.choices(),
        settings=SessionSettings.from_mapping(spec.build.session.model_dump()),
        allow_fallback=spec.build.providers.allow_fallback,
    )
    outputs = {
        value.name: array for value, array in zip(session.get_outputs(), session.run(None, batch.inputs), strict=True)
    }
    arrays: dict[str, Any] = {f"input.{name}": array for name, array in batch.inputs.items()}
    arrays |= {f"output.{name}": array for name, array in outputs.items()}
    np.savez(out / GOLDEN_FILE, **arrays)


def _manifest(
    spec: PackageSpec, facts: Mapping[str, Any], validation: Report, benchmark: Report, out: Path
) -> Manifest:
    graph = read_graph(out / MODEL_FILE)
    source = spec.model.source
    return Manifest(
        name=spec.build.model.name,
        task=spec.task,
        model_file=MODEL_FILE,
        verified=bool(validation.checks) and validation.passed,
        signature=graph.signature,
        limits={"sequence": facts["limits"]["sequence"]},
        providers=spec.build.providers.choices(),
        allow_fallback=spec.build.providers.allow_fallback,
        session=spec.build.session.model_dump(mode="json"),
        opsets=graph.opsets,
        ir_version=graph.ir_version,
        oldest_onnxruntime=graph.oldest_onnxruntime(),
        source=dict(spec.origin)
        | ({"files": dict(source.files)} if isinstance(source, FolderFiles) else source.model_dump(mode="json")),
        build=spec.build.model_dump(mode="json"),
        tools=_tools(),
        hierarchy=facts["hierarchy"],
        validation={
            "status": validation.facts["status"],
            "passed": validation.passed,
            "checks": {check.name: check.line() for check in validation.checks},
        },
        benchmark=dict(benchmark.facts),
        files=record_files(out),
    )


def _tools() -> dict[str, str]:
    installed = {name: installed_version(name) for name in _TOOLS}
    return {name: version for name, version in installed.items() if version}
