"""Make the folder of a target, whole or not at all."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from modelbuild.deployment import TARGETS
from modelbuild.deployment.options import Options
from modelbuild.digest import readable_by_all
from modelbuild.errors import ConfigError, HostError
from modelbuild.manifest import Manifest
from modelbuild.package_files import verify_package

Write = Callable[[Path, Manifest, Path, Options], None]


def deploy(target: str, package: Path, out: Path, options: Options) -> list[Path]:
    """Make the folder `out` for `target`, one of TARGETS, from the package in a folder, whole or not at all; return its
    files, relative to it.

    Raises PackageError where the package is not what was built or cannot be run there, HostError where `out` is there
    already, and ConfigError where it is inside the package, or for an option that cannot be.
    """
    if out.resolve().is_relative_to(package.resolve()):
        raise ConfigError("a package holds what was built, and no more", where=str(out), hint="choose another --out")
    manifest = verify_package(package)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HostError("it exists and is not empty", where=str(out), hint="choose another --out, or remove it")
    write = cast(Write, importlib.import_module(TARGETS[target]).write)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        write(package, manifest, fresh, options)
        readable_by_all(fresh)  # whoever runs it need not be who made it
        if out.exists():
            out.rmdir()
        fresh.rename(out)
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
