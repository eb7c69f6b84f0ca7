"""From a build as declared to what its stages depend on: the task, and the content of the model's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild.digest import sha256_json
from modelbuild.errors import ConfigError, ExportError
from modelbuild.exporter_spec import FileExporter
from modelbuild.families import EXPORTED_BY
from modelbuild.model_files import CONFIG_FILE, MODEL_INDEX, PREPROCESSOR_CONFIG, vocabularies
from modelbuild.model_spec import ModuleSource
from modelbuild.operator_libraries import locate_libraries, location
from modelbuild.sources import Digest, Located, locate
from modelbuild.spec import BuildSpec
from modelbuild.stage_spec import (
    LibraryFile,
    StageExporter,
)
from modelbuild.tasks import TASKS, Preprocessor, TaskName, task_of


@dataclass(frozen=True, kw_only=True)
class ResolvedBuild:
    """A build with nothing left to find out: its task, and where the model is and what is in it. `exporter` is the
    declared one, with the content of a file that it takes in place of its path.
    """

    spec: BuildSpec
    task: TaskName
    located: Located
    exporter: StageExporter
    custom_ops: tuple[LibraryFile, ...] = ()

    def build_id(self) -> str:
        """A name of the configuration alone: readable, then 12 hex digits. Tools and code are not part of it."""
        spec = self.spec
        opset = "own-opset" if spec.opset.version == "auto" else f"opset{spec.opset.version}"
        slug = f"{spec.model.name}-{self.task}-{opset}-{spec.providers.order[0]}-{spec.precision.kind}"
        return f"{slug}-{sha256_json(spec.model_dump(mode='json'))[:12]}"

    def locations(self) -> dict[str, Path]:
        """Where files are on this machine, by what a stage calls them: the model's folder `source`, the `weights` of a
        user's own module, the `graph` that was exported elsewhere, and libraries of custom operators. No result depends
        on it.
        """
        found = {"source": self.located.folder} if self.located.folder else {}
        found |= {"weights": self.located.weights} if self.located.weights else {}
        found |= {location(path): Path(path) for path in self.spec.session.custom_ops}
        exporter = self.spec.exporter
        return found | ({"graph": Path(exporter.path)} if isinstance(exporter, FileExporter) else {})


def resolve(spec: BuildSpec, digest: Digest) -> ResolvedBuild:
    """Locate the model and settle the task.

    Raises ExportError for the source, which must have a tokenizer unless sidecar=off, or for a graph that was exported
    elsewhere, ConfigError when no task can be told or a library of custom operators is none, and HostError for one
    that this machine cannot load.
    """
    located = locate(spec.model.source, digest)
    task = _task(spec, located.config)
    _require_exporter(spec, task)
    _require_kind(task, located)
    if spec.sidecar.kind == "auto":
        for preprocessor in TASKS[task].preprocessors:
            _require_preprocessor(preprocessor, TASKS[task].tokenizer_folder, located)
    # Last, for it runs the code of the libraries.
    libraries = locate_libraries(spec.session, digest)
    exporter = _exporter(spec, digest, libraries)
    return ResolvedBuild(spec=spec, task=task, located=located, exporter=exporter, custom_ops=libraries)


def _exporter(spec: BuildSpec, digest: Digest, libraries: Sequence[LibraryFile]) -> StageExporter:
    if not isinstance(spec.exporter, FileExporter):
        return spec.exporter
    from modelbuild.graph_source import locate_graph  # imports onnx, which other builds can do without
    from modelbuild.runtime.custom_ops import known_operators

    # What the libraries have is known when a session is opened.
    return locate_graph(spec.exporter, spec.opset, digest, None if libraries else known_operators)


def _require_kind(task: TaskName, located: Located) -> None:
    """Refuse a model for a pipeline's task, and a pipeline for a model's."""
    wanted, found = TASKS[task].family == "diffusion", MODEL_INDEX in located.files
    if located.folder is not None and wanted != found:
        raise ExportError(
            f"{'a pipeline' if found else 'a model'}, and {task} is for {'pipelines' if wanted else 'models'}",
            where=str(located.folder),
            hint=f"choose task=auto, or a folder with {MODEL_INDEX if wanted else CONFIG_FILE}",
        )


def _require_preprocessor(preprocessor: Preprocessor, tokenizer_folder: str, located: Located) -> None:
    """Refuse a folder without what makes inputs here, and not after its export, which may take long."""
    text = preprocessor == "tokenizer"
    files = vocabularies(tokenizer_folder) if text else {PREPROCESSOR_CONFIG}
    if located.folder is not None and not files & located.files.keys():
        raise ExportError(
            f"no {preprocessor.replace('_', ' ')} files",
            where=str(located.folder),
            hint=f"expected {'tokenizer.json or vocab.txt' if text else PREPROCESSOR_CONFIG}; or sidecar=off",
        )


def _require_exporter(spec: BuildSpec, task: TaskName) -> None:
    """Refuse an exporter that makes no graphs of the task's family here, and not when the model is loaded."""
    kind, makers = spec.exporter.kind, EXPORTED_BY.get(TASKS[task].family)
    if makers and kind not in makers:
        raise ConfigError(
            f"exporter={kind} does not make the graphs for {task}",
            where="exporter.kind",
            hint=f"choose {' or '.join(f'exporter={maker}' for maker in makers)}",
        )


def _task(spec: BuildSpec, config: Mapping[str, Any]) -> TaskName:
    """The task that was asked for, or the only one that the architectures in `config` tell."""
    own = isinstance(spec.model.source, ModuleSource)
    if own and spec.task.name == "auto":
        return "custom"
    if own != (spec.task.name == "custom"):
        raise ConfigError(
            f"task={spec.task.name} with model.source.kind={spec.model.source.kind}",
            where="task.name",
            hint="a module of your own has task=custom, or auto" if own else "task=custom is for modules of your own",
        )
    if spec.task.name != "auto":
        return spec.task.name
    named = config.get("architectures")
    architectures = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    told: dict[TaskName, str] = {}
    for name in architectures:
        if task := task_of(name):
            told.setdefault(task.name, name)
    if len(told) == 1:
        return next(iter(told))
    from modelbuild.architectures import tasks_of  # imports transformers, which builds that know their task do without

    which = " or a ".join(told.values()) or next(iter(architectures), "model without architectures")
    raise ConfigError(
        f"the task of a {which} cannot be told",
        where="task.name",
        hint=f"choose task={'|'.join(told or tasks_of(config) or [task for task in TASKS if task != 'custom'])}",
    )
