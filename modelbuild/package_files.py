"""The files of a package: recorded where it is built, and compared with that wherever it is."""

from __future__ import annotations

import os
from pathlib import Path

from modelbuild.digest import sha256_file
from modelbuild.errors import PackageError
from modelbuild.manifest import FILE_NAME, NOT_AS_WRITTEN, FileRecord, Manifest, examine_manifest

_PLAIN = "a package holds only plain files"


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and sha256 of every file under `folder` but the manifest, by its path relative to it. Raises PackageError
    for what is no plain file, or an empty folder.
    """
    names, others = _entries(folder)
    for name, what in others.items():
        raise PackageError(f"{name} is {what}", where=str(folder), hint=_PLAIN)
    return {name: record_file(folder / name) for name in names}


def record_file(path: Path) -> FileRecord:
    """Size and sha256 of one file."""
    return FileRecord(size_bytes=path.stat().st_size, sha256=sha256_file(path))


def verify_files(manifest: Manifest, folder: Path, *, digests: bool = True) -> None:
    """Raise PackageError, with every difference, unless `folder` holds exactly the files of `manifest`.

    Sizes are always compared; contents when `digests`.
    """
    _require_none(_differences(manifest, folder, digests=digests), folder)


def verify_package(folder: Path) -> Manifest:
    """The manifest of the package in `folder`, if all of it is what was built. Raises PackageError, with every
    difference of the files and of the manifest itself, if it is not.
    """
    manifest, as_written = examine_manifest(folder)
    _require_none([*([] if as_written else [NOT_AS_WRITTEN]), *_differences(manifest, folder, digests=True)], folder)
    return manifest


def _require_none(differences: list[str], folder: Path) -> None:
    if differences:
        raise PackageError(
            f"the package is not what was built: {'; '.join(differences)}",
            where=str(folder),
            hint="build or fetch it again",
        )


def _differences(manifest: Manifest, folder: Path, *, digests: bool) -> list[str]:
    names, others = _entries(folder)
    present = set(names)
    differences = [f"{name} is {what}, where {_PLAIN}" for name, what in others.items()]
    differences += [f"{name} is missing" for name in sorted(set(manifest.files) - present - others.keys())]
    differences += [f"{name} does not belong to it" for name in sorted(present - set(manifest.files))]
    for name in sorted(present & set(manifest.files)):
        record, path = manifest.files[name], folder / name
        if path.stat().st_size != record.size_bytes:
            differences.append(f"{name} has {path.stat().st_size} bytes instead of {record.size_bytes}")
        elif digests and sha256_file(path) != record.sha256:
            differences.append(f"{name} has another content (sha256)")
    return differences


def _entries(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The files under `folder` but the manifest, and what everything else is that has no place in a package."""
    files: set[str] = set()
    others: dict[str, str] = {}
    for parent, folders, names in os.walk(folder):
        if not folders and not names and Path(parent) != folder:
            others[Path(parent).relative_to(folder).as_posix()] = "an empty folder"
        for name in [*folders, *names]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                others[relative] = "a link"
            elif path.is_file():
                files.add(relative)
            elif not path.is_dir():
                others[relative] = "no file"
    return sorted(files - {FILE_NAME}), dict(sorted(others.items()))
