"""What each stage of a build depends on: its slice of the configuration, and the content of the model's files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelbuild.exporter_spec import GraphNames, PytorchExporter
from modelbuild.model_spec import InitSource, ModuleSource
from modelbuild.precision_spec import Precision
from modelbuild.spec import Benchmark, BuildSpec, Opset, Optimization, Providers, Session, Sidecar, Validation
from modelbuild.strict import Digests, Sha256, Strict
from modelbuild.tasks import TaskName


class FolderFiles(Strict):
    """A model source that is a folder, known by its content: file name -> sha256."""

    kind: Literal["folder"]
    files: Digests


class ModuleFiles(Strict):
    """A user's own module, known by its content: the sha256 of `main`, the Python file that has it, and of every file
    beside it that is imported on the way, by path in the folder; that of its `weights` (None where it makes its own);
    and the versions of the installed `libraries` that they import. `declared` is the source without folders.
    """

    kind: Literal["module"]
    declared: ModuleSource
    main: str
    files: Digests
    weights: Sha256 | None = None
    libraries: dict[str, str] = {}


class StageModel(Strict):
    """The model as a stage sees it: what it is, not where it was found."""

    source: Annotated[FolderFiles | InitSource | ModuleFiles, Field(discriminator="kind")]


class GraphFiles(Strict):
    """A graph that was exported elsewhere, known by its content: the sha256 of the ONNX file, and of each of the data
    files that it names. `inputs` and `outputs` are those of `FileExporter`.
    """

    kind: Literal["file"]
    graph: Sha256
    data: Digests
    inputs: GraphNames
    outputs: GraphNames


class LibraryFile(Strict):
    """A library of custom operators, known by its content: its file name and its sha256."""

    name: str
    sha256: Sha256


StageExporter = Annotated[PytorchExporter | GraphFiles, Field(discriminator="kind")]


class ExportSpec(Strict):
    """What export depends on. `custom_ops` are for a graph that was exported elsewhere; no other is opened there."""

    model: StageModel
    task: TaskName
    opset: Opset
    exporter: StageExporter
    custom_ops: tuple[LibraryFile, ...] = ()


class SidecarSpec(Strict):
    """What sidecar depends on."""

    model: StageModel
    task: TaskName
    sidecar: Sidecar


class Timing(Strict):
    """What decides how fast a graph is on a machine, named by `host`."""

    providers: Providers
    session: Session
    host: dict[str, str]


class Texts(Strict):
    """What makes inputs of texts: the files of the model that are not weights, and where its tokenizer is in them."""

    files: Digests
    tokenizer_folder: str


class OptimizeSpec(Strict):
    """What optimize depends on, beside the exported graph. It depends on a machine where it times something, and on the
    tokenizer and the processor (`host`) where it quantizes and looks at what that does to real text.
    """

    optimization: Optimization
    precision: Precision
    custom_ops: tuple[LibraryFile, ...] = ()
    timing: Timing | None = None
    texts: Texts | None = None
    host: dict[str, str] = {}


class ValidateSpec(Strict):
    """What validate depends on, beside the exported and the optimized graph and the sidecar files.

    `host` names the machine that its verdict on other providers than the CPU holds for; for the CPU alone it is empty,
    or names the processor, where a quantized graph may give other numbers on another.
    """

    model: StageModel
    task: TaskName
    opset: Opset
    precision: Precision
    providers: Providers
    session: Session
    validation: Validation
    custom_ops: tuple[LibraryFile, ...] = ()
    host: dict[str, str] = {}


class BenchmarkSpec(Strict):
    """What benchmark depends on, beside the optimized graph. `host` names the machine the figures hold for."""

    model: StageModel
    task: TaskName
    providers: Providers
    session: Session
    benchmark: Benchmark
    custom_ops: tuple[LibraryFile, ...] = ()
    host: dict[str, str]


class PackageSpec(Strict):
    """What package depends on, beside the files it assembles: the build as declared, what it was resolved to, and the
    versions of the `tools` that all stages use.
    """

    build: BuildSpec
    model: StageModel
    origin: dict[str, str]
    task: TaskName
    custom_ops: tuple[LibraryFile, ...] = ()
    tools: dict[str, str] = {}


SPECS: dict[str, type[Strict]] = {
    "export": ExportSpec,
    "sidecar": SidecarSpec,
    "optimize": OptimizeSpec,
    "validate": ValidateSpec,
    "benchmark": BenchmarkSpec,
    "package": PackageSpec,
}
