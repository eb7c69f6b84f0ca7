"""The files of a package that a target takes along."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def copy_files(package: Path, names: Sequence[str], out: Path) -> None:
    """Copy files of a package, which are there: it was compared with its manifest."""
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / name, out / name)
