"""What makes a folder a registry: a file that says so, and in which format."""

from __future__ import annotations

from pathlib import Path

from modelbuild.errors import HostError, unforeseen
from modelbuild.registry.disk import link_json, read_json

_FILE = "registry.json"
_FORMAT = 1
_HINT = "give the folder of a registry, or an empty one"


def require_registry(root: Path) -> None:
    """Raise HostError where `root` is something else than a registry, an empty folder or nothing, or is a newer one."""
    if root.exists() and not root.is_dir():
        raise HostError("a file, where the folder of a registry is wanted", where=str(root), hint=_HINT)
    if (root / _FILE).exists():
        found = read_json(root / _FILE).get("format")
        if found != _FORMAT:
            what = f"the registry has format {found}, and this modelbuild reads {_FORMAT}"
            raise HostError(what, where=str(root), hint="upgrade modelbuild")
    elif root.is_dir() and _has_others(root) and not (root / _FILE).exists():
        raise HostError(f"it is no registry: it has no {_FILE}", where=str(root), hint=_HINT)


def require_begun(root: Path) -> None:
    """Raise HostError where nothing is at `root`: a folder that was mistyped is no registry without models."""
    if not root.is_dir():
        raise HostError("no such folder", where=str(root), hint="a registry begins when something is added")


def claim(root: Path) -> None:
    """Make a registry of `root`, if it is none. Raises HostError where it cannot be one."""
    require_registry(root)
    if (root / _FILE).exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        link_json(root / _FILE, {"format": _FORMAT})
    except OSError as error:
        what = f"{error.strerror or error}"
        raise HostError(what, where=str(error.filename or root), hint="nothing was published") from error


def _has_others(root: Path) -> bool:
    """Whether there is more than a lock, or a file that somebody is writing who makes it a registry just now."""
    try:
        return any(path.name != "lock" and not path.name.startswith(".") for path in root.iterdir())
    except OSError as error:
        raise unforeseen(error) from error
