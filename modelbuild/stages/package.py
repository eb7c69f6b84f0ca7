"""package: the gate, and the folder that ships."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild import __version__
from modelbuild.attestation import BOM_FILE, STATEMENT_FILE, bill_of_materials, statement
from modelbuild.digest import write_json
from modelbuild.graph import read_graph
from modelbuild.hierarchy import Hierarchy, summary
from modelbuild.interface import Interface
from modelbuild.manifest import GraphRecord, Manifest, write_manifest
from modelbuild.model_files import CONFIG_FILE
from modelbuild.operator_libraries import copy_libraries
from modelbuild.package_files import record_file, record_files
from modelbuild.render.package import package_readme, report_html
from modelbuild.report import Report, read_report, require_passed
from modelbuild.runtime.cores import instruction_set, processor
from modelbuild.runtime.load import load
from modelbuild.runtime.selfcheck import GOLDEN_FILE
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import Batch, sample
from modelbuild.session_presets import settled
from modelbuild.sizes import typical_sizes
from modelbuild.spec import Session
from modelbuild.stage_spec import FolderFiles, ModuleFiles, PackageSpec

# Operators on weights in blocks, as wide as the processor's registers, which ONNX Runtime makes at level `all`.
_LAYOUT = "com.microsoft.nchwc"
_GOLDEN_BATCH, _GOLDEN_LENGTH = 2, 8


def run(spec: PackageSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Assemble the package in `out`, its manifest last, and open it as a user would.

    Raises ValidationError, and leaves nothing, when validation did not pass.
    """
    validation = read_report(inputs["validate"] / "validation.json")
    benchmark = read_report(inputs["benchmark"] / "benchmark.json")
    require_passed(validation)
    for stage in ("optimize", "sidecar"):
        shutil.copytree(inputs[stage], out, ignore=shutil.ignore_patterns("report.json"), dirs_exist_ok=True)
    components = read_report(inputs["optimize"] / "report.json").facts["components"]
    _describe(out / CONFIG_FILE, components, of_module=isinstance(spec.model.source, ModuleFiles))
    libraries = copy_libraries(spec.custom_ops, inputs, out)
    session = settled(spec.build.session, inputs["optimize"])
    _write_golden(spec, session, components, out, libraries)
    manifest = _manifest(spec, session, components, validation, benchmark, out, libraries)
    documents = {"README.md": package_readme, "report.html": report_html}
    for name, document in documents.items():
        (out / name).write_text(document(manifest, validation, benchmark), encoding="utf-8")
    manifest = _with_files(manifest, out, documents)
    for name, describe in {BOM_FILE: bill_of_materials, STATEMENT_FILE: statement}.items():
        (out / name).write_text(describe(manifest), encoding="utf-8")
        manifest = _with_files(manifest, out, [name])
    write_manifest(manifest, out)
    load(out)
    return Report(stage="package", facts={"verified": manifest.verified, "files": len(manifest.files)})


def _with_files(manifest: Manifest, out: Path, names: Iterable[str]) -> Manifest:
    return replace(manifest, files=dict(manifest.files) | {name: record_file(out / name) for name in names})


def _describe(config: Path, components: Mapping[str, Any], *, of_module: bool) -> None:
    """Say in `config.json`, if there is one, under a key that Hugging Face's readers leave alone, what modules the
    graphs are made of. A module of the user's own has there already which fields were inferred; what another original
    has there is of no use here, for it may be a package that is built again.
    """
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        modules = {name: Hierarchy.of_facts(facts["hierarchy"]) for name, facts in components.items()}
        own = values.get("modelbuild")
        kept = own if of_module and isinstance(own, dict) else {}
        write_json(config, values | {"modelbuild": kept | summary(modules)})


def _write_golden(
    spec: PackageSpec, session: Session, components: Mapping[str, Any], out: Path, libraries: tuple[str, ...]
) -> None:
    """For every graph inputs and the outputs they gave here, which the runtime replays wherever the package is
    opened.
    """
    arrays: dict[str, Any] = {}
    own = {"custom_ops": [out / name for name in libraries]}
    for name, facts in components.items():
        interface = Interface.of_facts(facts["interface"])
        batch = _golden_batch(interface)
        opened = open_session(
            out / facts["file"],
            providers=spec.build.providers.choices(),
            settings=SessionSettings.from_mapping(session.settings() | own),
            allow_fallback=spec.build.providers.allow_fallback,
        )
        outputs = opened.run(list(interface.output_names()), batch.inputs)
        arrays |= {f"{name}/input.{key}": array for key, array in batch.inputs.items()}
        arrays |= {f"{name}/output.{key}": array for key, array in zip(interface.output_names(), outputs, strict=True)}
    np.savez(out / GOLDEN_FILE, **arrays)


def _golden_batch(interface: Interface) -> Batch:
    sizes = typical_sizes(interface, batch=_GOLDEN_BATCH, length=_GOLDEN_LENGTH, past=_GOLDEN_LENGTH)
    return sample(interface, sizes, mask="right", rng=np.random.default_rng(0))


def _manifest(
    spec: PackageSpec,
    session: Session,
    components: Mapping[str, Any],
    validation: Report,
    benchmark: Report,
    out: Path,
    libraries: tuple[str, ...],
) -> Manifest:
    source = spec.model.source
    return Manifest(
        name=spec.build.model.name,
        task=spec.task,
        verified=bool(validation.checks) and validation.passed,
        graphs={name: _graph(facts, out) for name, facts in components.items()},
        providers=spec.build.providers.choices(),
        allow_fallback=spec.build.providers.allow_fallback,
        session=session.settings() | {"custom_ops": list(libraries)},
        source=dict(spec.origin)
        | ({"files": dict(source.files)} if isinstance(source, FolderFiles) else source.model_dump(mode="json")),
        build=spec.build.model_dump(mode="json"),
        tools={"modelbuild": __version__, **spec.tools},
        validation={
            "status": validation.facts["status"],
            "passed": validation.passed,
            "checks": {check.name: check.line() for check in validation.checks},
        },
        benchmark=dict(benchmark.facts),
        files=record_files(out),
        optimization={name: _optimization(facts) for name, facts in components.items()},
        built_on={"machine": platform.machine(), "processor": processor()},
    )


def _optimization(facts: Mapping[str, Any]) -> dict[str, Any]:
    """How one graph was optimized; what was tried and in which precision it is, where there is something to tell."""
    told = {key: facts[key] for key in ("search", "precision") if key in facts}
    return {"kind": facts["optimization"], "nodes_exported": facts["nodes_before"], "nodes": facts["nodes"]} | told


def _graph(facts: Mapping[str, Any], out: Path) -> GraphRecord:
    graph, interface = read_graph(out / facts["file"]), Interface.of_facts(facts["interface"])
    rows = interface.axes_of("batch")
    return GraphRecord(
        file=facts["file"],
        signature=graph.signature,
        limits=interface.limits(),
        may_be_empty=tuple(axis.name for axis in interface.axes if axis.smallest == 0),
        sums={axis.name: axis.parts for axis in interface.axes_of("sum")},
        steps=interface.steps(),
        ids={name: count for name, count in interface.ids().items() if name in graph.signature.input_names()},
        opsets=graph.opsets,
        ir_version=graph.ir_version,
        oldest_onnxruntime=graph.oldest_onnxruntime(),
        hierarchy=facts["hierarchy"],
        sizes=_golden_batch(interface).sizes,
        tied_to=instruction_set() if _LAYOUT in graph.opsets else "",
        batch=rows[0].name if len(rows) == 1 else "",
    )
