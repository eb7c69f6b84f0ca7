"""The digests of files that were read before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from modelbuild.digest import sha256_file, write_json


class DigestCache:
    """The sha256 of files, remembered by path, size, inode and modification time, as git and DVC remember theirs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = _read(path)

    def digest(self, path: Path) -> str:
        """The sha256 of the file at `path`, read only when its size, inode or modification time is new."""
        status = path.stat()
        stamp = [status.st_size, status.st_ino, status.st_mtime_ns]
        key = os.path.realpath(path)
        entry = self._known.get(key)
        if entry is None or entry[:3] != stamp:
            self._known[key] = entry = [*stamp, sha256_file(path)]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._known)
        return str(entry[3])


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a cache: what cannot be read is read again from the files
    entries = known.items() if isinstance(known, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) == 4}
