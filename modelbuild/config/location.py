"""Where configuration is: what modelbuild brings, and the user's own `conf/`, which comes first."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def packaged(name: str) -> Path:
    """`conf` or `dvc.yaml` as modelbuild brings it: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name


def config_folders(workspace: Path) -> list[Path]:
    """The folders that hold config groups, the first one winning: the workspace's `conf/`, then modelbuild's."""
    mine, builtin = workspace / "conf", packaged("conf")
    return [mine, builtin] if mine.is_dir() and not mine.samefile(builtin) else [builtin]


def groups(workspace: Path) -> dict[str, list[str]]:
    """The config groups and their choices, sorted."""
    found: dict[str, set[str]] = {}
    for folder in config_folders(workspace):
        for path in folder.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(choices) for group, choices in sorted(found.items())}
