"""What each stage of a resolved build depends on: its slice of the configuration, and of what was found out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelbuild.exporter_spec import FileExporter
from modelbuild.model_files import vocabularies
from modelbuild.model_spec import ModuleSource, PathSource
from modelbuild.resolve import ResolvedBuild
from modelbuild.spec import BuildSpec, Session
from modelbuild.stage_spec import (
    BenchmarkSpec,
    ExportSpec,
    FolderFiles,
    GraphFiles,
    OptimizeSpec,
    PackageSpec,
    SidecarSpec,
    StageModel,
    Texts,
    Timing,
    ValidateSpec,
)
from modelbuild.strict import Strict
from modelbuild.tasks import TASKS


def stage_specs(build: ResolvedBuild, host: Mapping[str, str]) -> dict[str, Strict]:
    """What each stage depends on: its slice of the build, in the order of the stages."""
    spec, task, located = build.spec, build.task, build.located
    weights = located.subset(spec.model.source, weights=True, sidecars=False)
    sidecars = located.subset(spec.model.source, weights=False, sidecars=True)
    session, libraries = _without_path(spec).session, build.custom_ops
    of_graph = libraries if isinstance(build.exporter, GraphFiles) else ()
    everything = located.subset(spec.model.source, weights=True, sidecars=True)
    return {
        "export": ExportSpec(model=weights, task=task, opset=spec.opset, exporter=build.exporter, custom_ops=of_graph),
        "sidecar": SidecarSpec(model=sidecars, task=task, sidecar=spec.sidecar),
        "optimize": OptimizeSpec(
            optimization=spec.optimization,
            precision=spec.precision,
            custom_ops=libraries,
            timing=_timing(spec, session, host),
            texts=_texts(build, sidecars),
            host=_processor(spec, host),
        ),
        "validate": ValidateSpec(
            model=everything,
            task=task,
            opset=spec.opset,
            precision=spec.precision,
            providers=spec.providers,
            session=session,
            validation=spec.validation,
            custom_ops=libraries,
            host=dict(host) if set(spec.providers.order) != {"cpu"} else _processor(spec, host),
        ),
        "benchmark": BenchmarkSpec(
            model=weights,
            task=task,
            providers=spec.providers,
            session=session,
            benchmark=spec.benchmark,
            custom_ops=libraries,
            host=dict(host),
        ),
        "package": PackageSpec(
            build=_without_path(spec), model=everything, origin=_origin(build), task=task, custom_ops=libraries
        ),
    }


def _timing(spec: BuildSpec, session: Session, host: Mapping[str, str]) -> Timing | None:
    """What the times depend on that optimize takes; None where it takes none."""
    if spec.optimization.kind != "auto" and not session.auto:
        return None
    return Timing(providers=spec.providers, session=session, host=dict(host))


def _processor(spec: BuildSpec, host: Mapping[str, str]) -> dict[str, str]:
    """The processor, where numbers depend on it: sums of 8 bit products saturate on some."""
    return {key: host[key] for key in ("machine", "processor") if key in host} if spec.precision.quantizes else {}


def _texts(build: ResolvedBuild, sidecars: StageModel) -> Texts | None:
    """What a reduced precision is judged by, where the model reads text and has a tokenizer."""
    source, folder = sidecars.source, TASKS[build.task].tokenizer_folder
    if not build.spec.precision.quantizes or not isinstance(source, FolderFiles):
        return None
    return Texts(files=source.files, tokenizer_folder=folder) if vocabularies(folder) & source.files.keys() else None


def _origin(build: ResolvedBuild) -> dict[str, str]:
    """Where the model came from, and which graph it is, with which data, if it was exported elsewhere."""
    exporter = build.exporter
    files = {"graph": exporter.graph} if isinstance(exporter, GraphFiles) else {}
    data = exporter.data if isinstance(exporter, GraphFiles) else {}
    return {**build.located.origin, **files, **{f"data of the graph: {name}": digest for name, digest in data.items()}}


def _without_path(spec: BuildSpec) -> BuildSpec:
    """The build without paths of this machine, which sources, a `file` and libraries have: what is in the files
    is told elsewhere.
    """
    model, exporter = spec.model, spec.exporter
    session = spec.session.model_copy(update={"custom_ops": tuple(Path(p).name for p in spec.session.custom_ops)})
    if isinstance(model.source, PathSource):
        source = model.source.model_copy(update={"path": Path(model.source.path).name})
        model = model.model_copy(update={"source": source})
    if isinstance(model.source, ModuleSource):
        model = model.model_copy(update={"source": model.source.without_folders()})
    if isinstance(exporter, FileExporter):
        exporter = exporter.model_copy(update={"path": Path(exporter.path).name})
    return spec.model_copy(update={"model": model, "exporter": exporter, "session": session})
