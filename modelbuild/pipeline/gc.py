"""Delete from the cache what no build refers to: declared or ad hoc."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo

from modelbuild.errors import HostError
from modelbuild.locks import hold, is_held
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

    What counts is the lock file of every build, declared or ad hoc, and whatever else the root's DVC project tracks.
    Raises HostError while a build is running.
    """
    if is_held(workspace.busy_lock()):
        raise HostError("a build is running", where=str(workspace.root), hint="run gc when it is done")
    with hold(workspace.busy_lock()):
        stale = [path for path in _adhoc_builds(workspace) if _is_stale(path, older_than_days)]
        kept = [path for path in _adhoc_builds(workspace) if path not in stale]
        repo = open_project(workspace.root)
        used = _used(repo, [workspace.root, *kept])
        gone = {path: path.stat().st_size for path in _objects(repo) if str(path) not in used}
        entries = list(_dead_entries(repo, gone))
        if not dry:
            _delete(stale, gone, entries)
    return Collected(
        builds=tuple(path.name for path in stale),
        objects=len(gone),
        size_bytes=sum(gone.values()),
        run_cache_entries=len(entries),
    )


def _adhoc_builds(workspace: Workspace) -> list[Path]:
    return sorted(path.parent for path in workspace.adhoc.glob("[!.]*/dvc.yaml"))


def _is_stale(folder: Path, days: float | None) -> bool:
    newest = max(path.stat().st_mtime for path in folder.iterdir())
    return days is not None and time.time() - newest > days * _DAY_S


def _objects(repo: Repo) -> Iterator[Path]:
    return Path(repo.cache.local.path).glob("??/*")


def _used(repo: Repo, projects: Iterable[Path]) -> set[str]:
    """The files in the cache that a lock file names, metrics and plots included, or that the root project tracks."""
    used = {repo.cache.local.oid_to_path(item.value) for items in repo.used_objs(force=True).values() for item in items}
    for project in projects:
        for stage in read_yaml(project / "dvc.lock").get("stages", {}).values():
            for out in stage.get("outs", []):
                used |= {path for path, _ in cached_objects(repo, out)}
    return used


def _dead_entries(repo: Repo, gone: Mapping[Path, int]) -> Iterator[Path]:
    """Entries of the run cache that name an output which is not in the cache: they can never be restored."""
    for path in Path(repo.stage_cache.cache_dir).glob("??/*/*"):
        objects = [Path(cached) for out in read_yaml(path)["outs"] for cached, _ in cached_objects(repo, out)]
        if any(cached in gone or not cached.exists() for cached in objects):
            yield path


def _delete(builds: Iterable[Path], objects: Iterable[Path], entries: Iterable[Path]) -> None:
    for folder in builds:
        shutil.rmtree(folder)
    for path in objects:
        path.unlink()
    for path in entries:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()  # DVC takes an empty folder for an entry, and fails on it
