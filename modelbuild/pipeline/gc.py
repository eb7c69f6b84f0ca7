"""Delete from the cache what no build refers to: declared or ad hoc."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo

from modelbuild.errors import HostError
from modelbuild.locks import is_held
from modelbuild.pipeline.project import Workspace
from modelbuild.pipeline.state import cached_objects, open_project, read_yaml

_DAY_S = 86400


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was deleted, or would be: builds, objects of the cache and their bytes, and run-cache entries without
    objects.
    """

    builds: tuple[str, ...]
    objects: int
    size_bytes: int
    run_cache_entries: int


def collect(workspace: Workspace, *, older_than_days: float | None, dry: bool) -> Collected:
    """Delete ad hoc builds not touched for `older_than_days` (None: keep all), then what no build refers to any more.

    Raises HostError while a build is running.
    """
    _require_idle(workspace)
    stale = [path for path in _adhoc_builds(workspace) if _is_stale(path, older_than_days)]
    if not dry:
        for path in stale:
            shutil.rmtree(path)
    kept = [path for path in _adhoc_builds(workspace) if path not in stale]
    repo = open_project(workspace.root)
    before = _objects(repo)
    if dry:
        used = _used(repo, kept)
        gone = {path: size for path, size in before.items() if path not in used}
    else:
        repo.gc(workspace=True, repos=[str(path) for path in kept], force=True)
        after = _objects(repo)
        gone = {path: size for path, size in before.items() if path not in after}
    return Collected(
        builds=tuple(path.name for path in stale),
        objects=len(gone),
        size_bytes=sum(gone.values()),
        run_cache_entries=_prune_run_cache(repo, set(gone), dry=dry),
    )


def _require_idle(workspace: Workspace) -> None:
    for path in (workspace.private / "locks").glob("build-*"):
        if is_held(path):
            raise HostError("a build is running", where=path.name.removeprefix("build-"), hint="run gc when it is done")


def _adhoc_builds(workspace: Workspace) -> list[Path]:
    return sorted(path.parent for path in workspace.adhoc.glob("*/dvc.yaml"))


def _is_stale(folder: Path, days: float | None) -> bool:
    newest = max(path.stat().st_mtime for path in folder.iterdir())
    return days is not None and time.time() - newest > days * _DAY_S


def _objects(repo: Repo) -> dict[str, int]:
    root = Path(repo.cache.local.path)
    return {str(path): path.stat().st_size for path in root.glob("??/*")}


def _used(repo: Repo, kept: list[Path]) -> set[str]:
    used: set[str] = set()
    for project in [repo, *(open_project(path) for path in kept)]:
        for objects in project.used_objs(force=True).values():
            used |= {repo.cache.local.oid_to_path(item.value) for item in objects}
    return used


def _prune_run_cache(repo: Repo, gone: set[str], *, dry: bool) -> int:
    """Entries of the run cache that name an output which is not in the cache can never be restored."""
    pruned = 0
    for path in Path(repo.stage_cache.cache_dir).glob("??/*/*"):
        outs = read_yaml(path)["outs"]
        objects = [cached for out in outs for cached, _ in cached_objects(repo, out)]
        if any(cached in gone or not os.path.exists(cached) for cached in objects):
            pruned += 1
            if not dry:
                path.unlink()
    return pruned
