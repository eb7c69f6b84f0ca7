"""The packages of a registry, by the sha256 of their manifest: whole or not there, and never changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

from modelbuild.digest import readable_by_all, sha256_file
from modelbuild.errors import PackageError
from modelbuild.manifest import FILE_NAME, Manifest, read_manifest
from modelbuild.package_files import verify_files
from modelbuild.registry.disk import folder_at, sync, sync_all


class Objects:
    """The folder `objects` of a registry, and `staging`, where copies are made."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, package: Path, manifest: Manifest) -> str:
        """Put a copy of a package there, in the place of one that was damaged, and return its digest. Raises
        PackageError where the package is not what its manifest says.
        """
        verify_files(manifest, package)
        digest = manifest.digest
        target = self._root / "objects" / digest
        if _is_whole(target):
            return digest
        staging = folder_at(self._root, "staging")
        with tempfile.TemporaryDirectory(dir=staging, prefix=f"{os.getpid()}.") as scratch:
            fresh = Path(scratch) / "package"
            shutil.copytree(package, fresh, symlinks=True)
            copied = read_manifest(fresh)
            verify_files(copied, fresh)  # what it was copied from may have changed
            if copied.digest != digest:
                raise PackageError("it changed while it was published", where=str(package), hint="publish it again")
            readable_by_all(fresh)
            sync_all(fresh)
            folder_at(self._root, "objects")
            _put(fresh, target, Path(scratch) / "damaged")
        sync(target.parent)
        return digest

    def folder(self, digest: str) -> Path | None:
        """The folder of a package; None where it is gone, or its manifest is another."""
        folder = self._root / "objects" / digest
        whole = (folder / FILE_NAME).is_file() and sha256_file(folder / FILE_NAME) == digest
        return folder if whole else None

    def keep_only(self, digests: Container[str]) -> None:
        """Delete all other packages, and copies that were broken off. Nobody else may publish meanwhile."""
        for name, kept in (("objects", digests), ("staging", ())):
            folder = self._root / name
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)


def _put(fresh: Path, target: Path, aside: Path) -> None:
    """Move a package into its place; what is damaged there goes aside, unless somebody else was faster."""
    if target.is_dir() and not _is_whole(target):
        with suppress(FileNotFoundError):
            target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _is_whole(folder: Path) -> bool:
    """Whether a package is there, and what its manifest says."""
    if not folder.is_dir():
        return False
    try:
        verify_files(read_manifest(folder), folder)
    except PackageError:
        return False
    return True
