"""Publish a finished package to a folder of the user's: whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from modelbuild.errors import HostError, PackageError
from modelbuild.manifest import FILE_NAME, examine_manifest, read_manifest
from modelbuild.package_files import verify_files
from modelbuild.pipeline.build_folder import host_error


def publish(package: Path, out: Path) -> None:
    """Copy `package` to `out`, replacing a package that is there.

    Raises HostError when `out` is something else than a package, or inside one, or cannot be written.
    """
    around = next((parent for parent in out.parents if _is_package(parent)), None)
    if around:
        raise HostError("a package holds what was built, and no more", where=str(around), hint="choose another out=DIR")
    if out.exists() and not (out / FILE_NAME).is_file() and not _is_empty(out):
        raise HostError("it exists and is not a package", where=str(out), hint="choose another out=DIR, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            fresh, old = Path(scratch) / "new", Path(scratch) / "old"
            shutil.copytree(package, fresh)
            verify_files(read_manifest(fresh), fresh)
            if out.exists():
                os.replace(out, old)
            try:
                os.replace(fresh, out)
            except BaseException:
                if old.exists():
                    os.replace(old, out)
                raise
    except OSError as error:
        raise host_error(error, out) from error


def _is_package(folder: Path) -> bool:
    """Others have a manifest.json too: web sites, for one."""
    with suppress(PackageError):
        return (folder / FILE_NAME).is_file() and bool(examine_manifest(folder))
    return False


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
