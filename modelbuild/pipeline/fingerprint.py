"""What else a stage depends on, beside its spec: the source of the modules it runs, and the versions of the tools
they import.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from modelbuild.candidates import CANDIDATES
from modelbuild.checks import OF_FAMILY
from modelbuild.decoding import DECODERS
from modelbuild.exporters import EXPORTERS
from modelbuild.families import CONFIGS, FAMILIES
from modelbuild.optimization import ASKED, REDUCTION, SESSIONS, WAYS
from modelbuild.precisions import PRECISIONS
from modelbuild.runtime.cores import processor, usable_cores
from modelbuild.stage_spec import BenchmarkSpec, ExportSpec, ModuleFiles, OptimizeSpec, SidecarSpec, ValidateSpec
from modelbuild.stages.which import is_off, module_of
from modelbuild.strict import Strict
from modelbuild.tasks import TASKS

_ROOT = Path(__file__).resolve().parents[1]
_NVIDIA = Path("/proc/driver/nvidia")
_GPU_LIBRARY = re.compile(r"onnxruntime[-_]gpu$|nvidia[-_]|tensorrt")

# Import name -> the distributions whose version decides what it does.
_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "PIL": ("pillow",),
    "cyclonedx": ("cyclonedx-python-lib",),
    "diffusers": ("diffusers",),
    "jinja2": ("jinja2",),
    "markupsafe": ("markupsafe",),
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "onnx_ir": ("onnx-ir",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "onnxscript": ("onnxscript",),
    "optimum": ("optimum", "optimum-onnx"),
    "packageurl": ("packageurl-python",),
    "platformdirs": ("platformdirs",),
    "psutil": ("psutil",),
    "pydantic": ("pydantic",),
    "safetensors": ("safetensors",),
    "tokenizers": ("tokenizers",),
    "torch": ("torch",),
    "transformers": ("transformers", "tokenizers", "safetensors"),
}


def stage_code(stage: str, spec: Strict) -> dict[str, str]:
    """The files of modelbuild that `stage` runs for `spec`, by path inside the package, with 16 hex digits of their
    sha256.

    Found by following imports from the stage's module and from the exporter, candidate or family that `spec` chooses.
    The packages' `__init__` hold tables and protocols only, and do not count: a new exporter changes no export by
    another. The diagnosis of validate builds graphs by whichever candidate it needs, so that all of them count there.
    """
    return {str(path.relative_to(_ROOT)): _content(path) for path in sorted(_closure(entry_modules(stage, spec)))}


def stage_tools(stage: str, spec: Strict) -> dict[str, str]:
    """The installed versions of the libraries that the code of `stage` imports, and Python's."""
    names = {
        name for path in _closure(entry_modules(stage, spec)) if path.suffix == ".py" for name in _imports(path)[1]
    }
    wanted = sorted(dist for name in names for dist in _DISTRIBUTIONS.get(name, ()))
    return {"python": platform.python_version()} | {dist: version for dist in wanted if (version := _version(dist))}


def host(driver: Path = _NVIDIA) -> dict[str, str]:
    """What figures measured here hold for: the processor and how much of it this process may use, and where there is an
    NVIDIA driver, its GPUs, its version and those of the libraries that run models on them.
    """
    here = {"machine": platform.machine(), "processor": processor(), "cores": str(usable_cores())}
    return here | (_nvidia(driver) if driver.is_dir() else {})


def entry_modules(stage: str, spec: Strict) -> tuple[str, ...]:
    """The modules that do the work of `stage` for `spec`; all others that it runs are imported by these."""
    if is_off(spec):
        return (module_of(stage, spec),)
    variant: tuple[str, ...] = ()
    if isinstance(spec, ExportSpec):
        variant = (EXPORTERS[spec.exporter.kind],)
    elif isinstance(spec, OptimizeSpec):
        variant = _of_optimize(spec)
    elif isinstance(spec, ValidateSpec):
        variant = tuple(sorted(set(CANDIDATES.values())))
    if isinstance(spec, ExportSpec | ValidateSpec | BenchmarkSpec) or (
        isinstance(spec, SidecarSpec) and isinstance(spec.model.source, ModuleFiles)
    ):
        variant = (*variant, FAMILIES[TASKS[spec.task].family])
    for kind, modules in ((ValidateSpec, DECODERS), (ValidateSpec, OF_FAMILY), (SidecarSpec, CONFIGS)):
        if isinstance(spec, kind) and TASKS[spec.task].family in modules:
            variant = (*variant, modules[TASKS[spec.task].family])
    return (module_of(stage, spec), *variant)


def _of_optimize(spec: OptimizeSpec) -> tuple[str, ...]:
    """A search makes all candidates; a precision, and a session that is to be found, have modules of their own."""
    kind, precision = spec.optimization.kind, spec.precision.kind
    candidates = CANDIDATES.values() if kind == "auto" else (CANDIDATES[kind],)
    reduction = () if precision == "fp32" else (REDUCTION, PRECISIONS[precision])
    sessions = (SESSIONS,) if spec.timing and spec.timing.session.auto else ()
    return (WAYS.get(kind, ASKED), *sorted(set(candidates)), *reduction, *sessions)


@cache
def _closure(modules: tuple[str, ...]) -> frozenset[Path]:
    found: set[Path] = set()
    queue = [path for module in modules for path in _files(module)]
    while queue:
        path = queue.pop()
        if path not in found:
            found.add(path)
            queue += [file for module in (_imports(path)[0] if path.suffix == ".py" else ()) for file in _files(module)]
    return frozenset(found)


def _files(module: str) -> list[Path]:
    """The file of a module of ours, and the templates beside it; nothing for a package or a name inside a module."""
    path = _ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return [path, *path.parent.glob("*.j2")] if path.is_file() else []


@cache
def _imports(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Modules of ours, and top-level names of others, that a file imports anywhere, inside functions too."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        for name in _imported(node):
            if name.split(".")[0] == "modelbuild":
                ours.add(name)
            else:
                others.add(name.split(".")[0])
    return frozenset(ours), frozenset(others)


def _imported(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@cache
def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nvidia(driver: Path) -> dict[str, str]:
    """The models of the GPUs, sorted, the driver's version, and the versions of installed libraries for them."""
    models = sorted(
        line.partition(":")[2].strip()
        for file in driver.glob("gpus/*/information")
        for line in _lines(file)
        if line.startswith("Model:")
    )
    first = next(iter(_lines(driver / "version")), "")
    version = re.search(r"\b\d+(\.\d+)+\b", first)
    return {"gpus": ", ".join(models), "driver": version.group() if version else first} | _gpu_libraries()


def _gpu_libraries() -> dict[str, str]:
    """By lower-case name, the version that is imported where a distribution is installed twice."""
    installed = reversed(list(importlib.metadata.distributions()))
    versions = {(dist.metadata["Name"] or "").lower(): dist.version for dist in installed}
    return {name: versions[name] for name in sorted(versions) if _GPU_LIBRARY.match(name)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
