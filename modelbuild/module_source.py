"""A module of the user's own as a source: its files, found and known by their content without being run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelbuild.errors import ExportError
from modelbuild.model_files import SAFE_SUFFIX
from modelbuild.model_spec import ModuleSource
from modelbuild.module_code import code_of_file, code_of_package
from modelbuild.stage_spec import ModuleFiles
from modelbuild.suggest import closest
from modelbuild.weight_files import require_file


@dataclass(frozen=True, kw_only=True)
class FoundModule:
    """A module's `files` in `folder`, and where the file of its `weights` is (None where it makes its own)."""

    files: ModuleFiles
    folder: Path
    weights: Path | None


def find_module(source: ModuleSource, digest: Callable[[Path], str]) -> FoundModule:
    """Find the files of `source`; `digest` gives the sha256 of a file. Raises ExportError when one is missing or not
    what it should be.
    """
    code = code_of_file(Path(source.path)) if source.path else code_of_package(source.import_path or "")
    weights = Path(source.weights) if source.weights else None
    if weights:
        _require_weights(weights)
    files = ModuleFiles(
        kind="module",
        declared=source.without_folders(),
        main=code.main,
        files={name: digest(code.folder / name) for name in code.files},
        weights=digest(weights) if weights else None,
        libraries=dict(code.libraries),
    )
    return FoundModule(files=files, folder=code.folder, weights=weights)


def _require_weights(path: Path) -> None:
    if not path.is_file():
        near = closest(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else None
        hint = f"did you mean '{path.parent / near}'?" if near else "check model.source.weights"
        raise ExportError("no such file", where=str(path), hint=hint)
    if path.suffix != SAFE_SUFFIX:
        raise ExportError("not a safetensors file", where=str(path), hint="save the weights with safetensors.torch")
    require_file(path)
