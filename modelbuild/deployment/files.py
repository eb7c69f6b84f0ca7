"""The files of a package that a target takes along."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from modelbuild.errors import PackageError


def copy_files(package: Path, names: Sequence[str], out: Path) -> None:
    """Copy files of a package. Raises PackageError for one that is not there."""
    for name in names:
        if not (package / name).is_file():
            raise PackageError(f"{name} is missing", where=str(package), hint="build or fetch it again")
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / name, out / name)
