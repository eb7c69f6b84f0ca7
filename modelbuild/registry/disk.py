"""Folders and JSON of a registry: made where nothing is, on the disk when a call returns, damaged or not."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelbuild.digest import write_json
from modelbuild.errors import PackageError, unforeseen


def folder_at(root: Path, *names: str) -> Path:
    """The folder of these names below `root`, made if it is not there, and on the disk."""
    folder = root.joinpath(*names)
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)
    return folder


def sync_all(folder: Path) -> None:
    """Have everything in `folder` on the disk."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_json(path: Path, value: Mapping[str, Any]) -> bool:
    """Write a JSON object where no file is, which one process alone can do; False where one is."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".new", encoding="utf-8") as stream:
        json.dump(value, stream, indent=2)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
        try:
            os.link(stream.name, path)
        except FileExistsError:
            return False
    sync(path.parent)
    return True


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object in the place of what is there."""
    write_json(path, value)
    sync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """What was written there. Raises PackageError where it is damaged, and HostError where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unforeseen(error) from error
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(found, dict):
        raise damaged(path, TypeError("no JSON object"))
    return found


def damaged(path: Path, error: Exception) -> PackageError:
    """The error for a file that is not what was written."""
    return PackageError(f"it is damaged: {error!r}", where=str(path), hint="restore it from a backup")


def now() -> str:
    """This moment, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
