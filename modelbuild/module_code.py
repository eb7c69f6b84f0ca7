"""A user's own Python file, looked at without running it: where it is, and what it imports."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath

from modelbuild.digest import sha256_file, sha256_json
from modelbuild.errors import ExportError
from modelbuild.suggest import closest

_INIT = "__init__.py"
# What modelbuild itself runs with, which no build may load anew or take for the user's own.
OURS = frozenset(
    {
        "PIL", "cyclonedx", "diffusers", "dvc", "huggingface_hub", "hydra", "jinja2", "markupsafe", "model_signing",
        "modelbuild", "numpy", "omegaconf", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "optimum", "packageurl",
        "platformdirs", "prometheus_client", "psutil", "pydantic", "rich", "safetensors", "tokenizers", "torch",
        "transformers", "yaml",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Code:
    """A Python file `main` in `folder`, with all `files` beside it that are imported on the way, itself the first, by
    path in the folder; and the versions of the installed `libraries` that they import. One that is installed to be
    edited has the content of its files for a version.
    """

    folder: Path
    main: str
    files: tuple[str, ...]
    libraries: Mapping[str, str]


def code_of_file(path: Path) -> Code:
    """The code that begins in a Python file. Raises ExportError when it, or what it imports from beside itself, is
    missing or no Python, or when it imports what no build can know the version of.
    """
    _require_file(path)
    return _followed(path.parent, path.name, _Installed())


def code_of_package(import_path: str) -> Code:
    """The code that begins in an installed module, by its dotted name. Nothing of it is imported.

    Raises ExportError when there is none, or as `code_of_file`.
    """
    top, *rest = import_path.split(".")
    if top in OURS:
        raise ExportError(
            f"'{top}' is a library that modelbuild itself runs with",
            where="model.source.import_path",
            hint="give a function of your own that returns its module, in a file with model.source.path",
        )
    roots = _roots(_spec(top) if top not in sys.stdlib_module_names else None)
    if not roots:
        raise ExportError(
            f"there is no Python module '{top}' to import",
            where="model.source.import_path",
            hint="install it, or give its file as model.source.path",
        )
    for folder in roots:
        main = next(iter(_files_of(folder, import_path)[-1:]), "")
        if main and dotted_name(main) == import_path:
            return _followed(folder, main, _Installed(), top)
    inside = roots[0].joinpath(*import_path.split(".")[:-1])
    near = closest(rest[-1], (path.stem for path in inside.glob("*.py"))) if rest and inside.is_dir() else None
    raise ExportError(
        f"the Python package '{top}' has no module '{import_path}'" if rest else f"'{top}' has no {_INIT} to import",
        where="model.source.import_path",
        hint=f"did you mean '{import_path.rpartition('.')[0]}.{near}'?" if near else f"it is in {roots[0] / top}",
    )


def dotted_name(file: str) -> str:
    """What a file is imported as: `layers` for `layers.py`, `parts` for `parts/__init__.py`."""
    path = PurePosixPath(file)
    return ".".join(path.parent.parts if path.name == _INIT else path.with_suffix("").parts)


def _require_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted(path.glob("*.py"))
        hint = f"did you mean '{inside[0]}'?" if inside else "give the .py file"
        raise ExportError("a folder, where a Python file is wanted", where=str(path), hint=hint)
    if not path.is_file():
        near = closest(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else None
        hint = f"did you mean '{path.parent / near}'?" if near else "check model.source.path"
        raise ExportError("no such file", where=str(path), hint=hint)
    if path.suffix != ".py":
        raise ExportError("not a Python file", where=str(path), hint="its name must end in .py")


class _Installed:
    """What is installed here, looked at once."""

    def __init__(self) -> None:
        self.followed: set[str] = set()

    @cached_property
    def _by_module(self) -> Mapping[str, list[str]]:
        return importlib.metadata.packages_distributions()

    def distributions(self, name: str) -> list[importlib.metadata.Distribution]:
        """Those that a top-level module of that name comes from."""
        try:
            return [importlib.metadata.distribution(name)]
        except importlib.metadata.PackageNotFoundError:
            return [importlib.metadata.distribution(found) for found in sorted(set(self._by_module.get(name, ())))]

    def owns(self, name: str) -> bool:
        """Whether that top-level module is of a distribution, whose version says what is in it."""
        return name in OURS or any(not _is_editable(found) for found in self.distributions(name))


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    """Whether its files are where someone works on them, so that they change under one version."""
    said = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(said.get("dir_info", {}).get("editable"))


def _spec(name: str) -> ModuleSpec | None:
    """Where a top-level module would be imported from now. What is loaded is not asked, nor the finder of a build."""
    for finder in sys.meta_path:
        asked = None if getattr(finder, "of_a_build", False) else getattr(finder, "find_spec", None)
        if asked and (found := asked(name, None)):
            return found if isinstance(found, ModuleSpec) else None
    return None


def _roots(spec: ModuleSpec | None) -> list[Path]:
    """The folders that a top-level module is in: one, or several of a package without an `__init__.py`."""
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place).parent for place in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec.has_location and spec.origin else []


def _followed(folder: Path, main: str, installed: _Installed, package: str | None = None) -> Code:
    """The code that begins in the file `main`, which is of the installed `package` or a file by itself."""
    files = {main: None} | dict.fromkeys(_files_of(folder, dotted_name(main)))
    beside: dict[str, bool] = {package: True} if package else {}
    outside: dict[str, str] = {}
    queue = list(files)
    while queue:
        file = queue.pop(0)
        for name in _imported(folder, file):
            top = name.partition(".")[0]
            local = _files_of(folder, name)
            if local and not beside.setdefault(top, _is_own(folder, local[0], top, installed, package)):
                local = []
            queue += [found for found in local if found not in files]
            files |= dict.fromkeys(local)
            if not local and not beside.get(top):
                outside.setdefault(top, file)
    libraries: dict[str, str] = {}
    for name, file in sorted(outside.items()):
        libraries |= _versions(name, folder / file, installed)
    return Code(folder=folder, main=main, files=tuple(files), libraries=libraries)


def _is_own(folder: Path, file: str, top: str, installed: _Installed, package: str | None) -> bool:
    """Whether what is beside is the user's own, and no library that is installed in the same folder or linked to.

    A file beside a file goes before a library of its name, as in Python; beside a package, which is itself installed,
    it does not.
    """
    found = _spec(top)
    same = found is not None and found.origin is not None and (folder / file).resolve() == Path(found.origin).resolve()
    return top not in OURS and not ((package is not None or same) and installed.owns(top))


def _imported(folder: Path, file: str) -> Iterator[str]:
    """The dotted names that a file imports anywhere in its text, inside functions too."""
    package = dotted_name(file).split(".")[: None if file.endswith(_INIT) else -1]
    for node in ast.walk(_parsed(folder / file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package) + (node.level == 0):
            around = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*around, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExportError(f"not valid Python: {what}", where=f"{path}{line}", hint="correct it") from error


def _files_of(folder: Path, name: str) -> list[str]:
    """The files in `folder` that an import of `name` runs, in order; none where the name is of something else.

    A standard module wins over a file of its name.
    """
    parts = name.split(".")
    found = []
    for count in range(1, len(parts) + 1):
        path = PurePosixPath(*parts[:count])
        choices = (str(path / _INIT), f"{path}.py")
        found += [next(choice for choice in choices if (folder / choice).is_file())] if _any(folder, choices) else []
    return [] if parts[0] in sys.stdlib_module_names else found


def _any(folder: Path, choices: Iterable[str]) -> bool:
    return any((folder / choice).is_file() for choice in choices)


def _versions(name: str, file: Path, installed: _Installed) -> dict[str, str]:
    """The versions of what a top-level module that `file` imports comes from; nothing for one that is not there, which
    fails or is expected when the file is run.

    Raises ExportError for one that comes from no distribution: nobody knows when it changes.
    """
    if name in sys.stdlib_module_names or name in installed.followed:
        return {}
    found = installed.distributions(name)
    roots = _roots(_spec(name)) if not found or (name not in OURS and any(map(_is_editable, found))) else []
    if roots and not found:
        raise ExportError(
            f"it imports '{name}', whose changes would not be seen",
            where=str(file),
            hint="put it beside the file, or install it",
        )
    versions = {distribution.name: distribution.version for distribution in found}
    for folder in roots:
        for main in _files_of(folder, name):
            installed.followed.add(name)
            code = _followed(folder, main, installed, name)
            content = sha256_json({path: sha256_file(folder / path) for path in code.files})
            versions |= {**code.libraries, name: content}
    return versions
