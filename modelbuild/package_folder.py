"""What a user may give for a package: its folder, or a name in the registry."""

from __future__ import annotations

from pathlib import Path

from modelbuild.errors import PackageError, unforeseen

_REGISTRY = "registry:"


def package_folder(path: str | Path) -> Path:
    """The folder of a package: `path` itself, or where the registry that MODELBUILD_REGISTRY names has what
    `registry:NAME`, `registry:NAME@RANGE` or `registry:NAME#STAGE` refers to.

    Raises PackageError where there is no such folder, or no such name, version or stage, and HostError where no
    registry is known.
    """
    if isinstance(path, str) and path.startswith(_REGISTRY):
        from modelbuild.registry import Registry  # only now: most have none, and it locks, as not every system does

        return Registry().resolve(path)
    try:
        folder = Path(path)
        if folder.is_dir():
            return folder
        what = "a file, where a folder is wanted" if folder.exists() else "no such folder"
    except TypeError as error:
        raise PackageError(f"a path is wanted, got {path!r}", hint="give the folder of a package") from error
    except OSError as error:
        raise unforeseen(error) from error
    raise PackageError(what, where=str(folder), hint="give the folder of a package")
