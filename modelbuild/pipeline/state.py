"""What DVC would do with each stage of a build: nothing, restore it from the run cache, or run it. Runs nothing.

The key of a stage in DVC's run cache is a hash of its command, the content of its dependencies, its parameters and
the names of its outputs (`dvc.stage.cache._get_cache_hash`). A stage that is in the run cache tells the content of
its outputs, from which the keys of the stages after it follow; so a whole build is foretold without running any of
it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dvc.repo import Repo
from dvc.utils import dict_sha256
from dvc.utils.serialize import load_yaml

from modelbuild.pipeline.build_folder import PARAMS_FILE
from modelbuild.stages import STAGES

Status = Literal["current", "cached", "run"]
Entry = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageState:
    """Where one stage stands: `current` in the build's folder, `cached` in the run cache, or to `run`.

    `key` is its run-cache key, None while a stage before it has to run.
    """

    stage: str
    status: Status
    key: str | None


def open_project(folder: Path) -> Repo:
    """The DVC project in `folder`. What DVC says of its own accord is left out: we say what happens."""
    logging.getLogger("dvc").setLevel(logging.WARNING)
    return Repo(str(folder))


def project_stages(repo: Repo) -> dict[str, Any]:
    """DVC's own objects for the stages of the build, by name, read once."""
    return {stage.name: stage for stage in repo.index.stages}


def build_states(repo: Repo, params: Entry | None = None) -> list[StageState]:
    """The state of every stage of the build that `repo` is, in order. `params` are those of its `params.yaml`, if at
    hand.
    """
    params = params or read_yaml(Path(repo.root_dir) / PARAMS_FILE)
    stages = project_stages(repo)
    known: dict[str, Entry] = {}
    states = []
    for name in STAGES:
        state, outs = _state(repo, stages[name], _wanted(stages[name], params, known))
        known.update({out["path"]: out for out in outs})
        states.append(state)
    return states


def _wanted(stage: Any, params: Entry, known: Mapping[str, Entry]) -> dict[str, Any] | None:
    """The stage as DVC would lock it now, without the content of its outputs. None when an input is not known yet."""
    paths = sorted(dep.def_path for dep in stage.deps if dep.def_path != PARAMS_FILE)
    if any(path not in known for path in paths):
        return None
    return _entry(stage, [dict(known[path]) for path in paths], {stage.name: params[stage.name]})


def _locked(stage: Any) -> dict[str, Any] | None:
    """The stage as DVC locked it last, in the same form. None when it never did, or its command has changed."""
    if stage.cmd_changed or not all(item.hash_info for item in (*stage.deps, *stage.outs)):
        return None
    deps = sorted((dep for dep in stage.deps if dep.def_path != PARAMS_FILE), key=lambda dep: dep.def_path)
    params = next(dep for dep in stage.deps if dep.def_path == PARAMS_FILE)
    return _entry(stage, [_content(dep) for dep in deps], params.hash_info.value)


def _entry(stage: Any, deps: list[dict[str, Any]], params: Entry) -> dict[str, Any]:
    entry: dict[str, Any] = {"cmd": stage.cmd}
    if deps:
        entry["deps"] = deps
    return entry | {"params": {PARAMS_FILE: params}, "outs": sorted(out.def_path for out in stage.outs)}


def _content(item: Any) -> dict[str, Any]:
    return {"path": item.def_path, "hash": "md5", "md5": item.hash_info.value}


def _state(repo: Repo, stage: Any, wanted: dict[str, Any] | None) -> tuple[StageState, list[Entry]]:
    if wanted is None:
        return StageState(stage=stage.name, status="run", key=None), []
    key, locked = run_cache_key(wanted), _locked(stage)
    if locked and run_cache_key(locked) == key and all(out.exists and not out.changed_checksum() for out in stage.outs):
        return StageState(stage=stage.name, status="current", key=key), [_content(out) for out in stage.outs]
    for entry in _run_cache_entries(repo, key):
        if all(_is_cached(repo, out) for out in entry["outs"]):
            return StageState(stage=stage.name, status="cached", key=key), entry["outs"]
    return StageState(stage=stage.name, status="run", key=key), []


def run_cache_key(entry: Entry) -> str:
    """DVC's run-cache key of a stage: sizes and numbers of files do not count."""
    return str(dict_sha256(dict(entry), exclude=["size", "nfiles"]))


def _run_cache_entries(repo: Repo, key: str) -> Iterator[Entry]:
    """What the run cache holds under `key`, the newest first, as DVC takes it."""
    folder = Path(repo.stage_cache.cache_dir, key[:2], key)
    if folder.is_dir():
        for path in sorted(folder.iterdir(), key=lambda item: item.stat().st_mtime, reverse=True)[:1]:
            yield read_yaml(path)


def _is_cached(repo: Repo, out: Entry) -> bool:
    """Whether the content of an output is in the cache, and of every file in it if it is a folder."""
    return all(os.path.exists(path) for path, _ in cached_objects(repo, out))


def cached_objects(repo: Repo, out: Entry) -> Iterator[tuple[str, str]]:
    """The files in the cache that make an output, each with the path it has in the build's folder."""
    cache = repo.cache.local
    yield cache.oid_to_path(out["md5"]), "" if out["md5"].endswith(".dir") else out["path"]
    if out["md5"].endswith(".dir"):
        listing = cache.oid_to_path(out["md5"])
        if os.path.exists(listing):
            for item in json.loads(Path(listing).read_text(encoding="utf-8")):
                yield cache.oid_to_path(item["md5"]), f"{out['path']}/{item['relpath']}"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as DVC reads and writes them, in YAML 1.2, where `off` and `1e-06` are not what PyYAML takes them
    for.
    """
    return (load_yaml(str(path)) or {}) if path.exists() else {}
