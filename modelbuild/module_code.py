"""A user's own Python file, looked at without running it: where it is, and what it imports from beside itself."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelbuild.errors import ExportError
from modelbuild.suggest import closest

_INIT = "__init__.py"


@dataclass(frozen=True, kw_only=True)
class Code:
    """A Python file `main` in `folder`, with all `files` beside it that are imported on the way, itself the first, by
    path in the folder; and the versions of the installed `libraries` that they import.
    """

    folder: Path
    main: str
    files: tuple[str, ...]
    libraries: Mapping[str, str]


def code_of_file(path: Path) -> Code:
    """The code that begins in a Python file. Raises ExportError when it, or what it imports from beside itself, is
    missing or no Python.
    """
    _require_file(path)
    return _followed(path.parent, path.name)


def code_of_package(import_path: str) -> Code:
    """The code that begins in an installed module, by its dotted name. Nothing of it is imported.

    Raises ExportError when there is none.
    """
    top, *rest = import_path.split(".")
    found = importlib.util.find_spec(top) if top not in sys.stdlib_module_names else None
    if found is None or not found.has_location or found.origin is None:
        raise ExportError(
            f"there is no Python module '{top}' to import",
            where="model.source.import_path",
            hint="install it, or give its file as model.source.path",
        )
    origin = Path(found.origin)
    folder = origin.parent.parent if origin.name == _INIT else origin.parent
    main = next(iter(_files_of(folder, import_path)[-1:]), "")
    if not rest or dotted_name(main) == import_path:
        return _followed(folder, main)
    inside = folder.joinpath(*import_path.split(".")[:-1])
    near = closest(rest[-1], (path.stem for path in inside.glob("*.py"))) if inside.is_dir() else None
    raise ExportError(
        f"the Python package '{top}' has no module '{import_path}'",
        where="model.source.import_path",
        hint=f"did you mean '{import_path.rpartition('.')[0]}.{near}'?" if near else f"it is in {origin.parent}",
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


def _followed(folder: Path, main: str) -> Code:
    files = {main: None} | dict.fromkeys(_files_of(folder, dotted_name(main)))
    outside: set[str] = set()
    queue = list(files)
    while queue:
        file = queue.pop(0)
        for name in _imported(folder, file):
            local = _files_of(folder, name)
            queue += [found for found in local if found not in files]
            files |= dict.fromkeys(local)
            outside |= set() if local else {name.partition(".")[0]}
    return Code(folder=folder, main=main, files=tuple(files), libraries=_versions(outside))


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


def _versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of the distributions that modules of these names come from, as far as any is installed."""
    wanted = sorted(name for name in names if name not in sys.stdlib_module_names)
    found, unknown = {}, []
    for name in wanted:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            unknown.append(name)
    by_module = importlib.metadata.packages_distributions() if unknown else {}
    return found | {
        distribution: importlib.metadata.version(distribution)
        for name in unknown
        for distribution in sorted(set(by_module.get(name, ())))
    }
