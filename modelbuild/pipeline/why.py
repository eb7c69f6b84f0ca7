"""Why a stage would run: its parameters now, beside those that were locked when it last ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelbuild.pipeline import STAGE_INPUTS
from modelbuild.pipeline.project import Workspace
from modelbuild.pipeline.state import StageState, read_yaml

Locked = Mapping[str, Mapping[str, Any]]
_KINDS = {"code": "code", "tools": "tool", "model.source.files": "file", "exporter.data": "file", "host": "machine"}


def locked_builds(workspace: Workspace) -> Mapping[str, Locked]:
    """The parameters that every build was last made with, by build and stage, from the lock files of DVC."""
    builds: dict[str, dict[str, Mapping[str, Any]]] = {}
    for path in [workspace.root / "dvc.lock", *sorted(workspace.adhoc.glob("*/dvc.lock"))]:
        stages = read_yaml(path).get("stages", {})
        for address, entry in stages.items():
            name, _, declared = address.partition("@")
            params = next(iter(entry.get("params", {}).values()), {}).get(name)
            if params is not None:
                builds.setdefault(declared or path.parent.name, {})[name] = params
    return builds


def nearest(build_id: str, params: Locked, builds: Mapping[str, Locked]) -> tuple[str, Locked]:
    """The build to compare with: the same one if it was ever made, else the one with the fewest differences, else
    none.
    """
    if build_id in builds or not builds:
        return (build_id, builds[build_id]) if build_id in builds else ("", {})
    best = min(builds, key=lambda name: sum(len(list(_changes(params[s], builds[name].get(s, {})))) for s in params))
    return best, builds[best]


def reasons(state: StageState, params: Mapping[str, Any], locked: Locked, states: Sequence[StageState]) -> list[str]:
    """What changed for one stage, a line each; nothing for a stage that is current."""
    if state.status == "current":
        return []
    if state.stage not in locked:
        return ["it was never made"]
    changed = [_line(key, old, new) for key, old, new in _changes(params, locked[state.stage])]
    upstream = {s.stage for s in states if s.status == "run"} & set(STAGE_INPUTS[state.stage])
    changed += [f"input: {name} has to run" for name in STAGE_INPUTS[state.stage] if name in upstream]
    return changed or ["its output is in the cache and not, or not so, in the folder of the build"]


def _changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys whose values differ, with the old and the new value; None where there is none."""
    mine, theirs = dict(_flat(new)), dict(_flat(old))
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            yield key, theirs.get(key), mine.get(key)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _line(key: str, old: Any, new: Any) -> str:
    for start, kind in _KINDS.items():
        if key.startswith(f"{start}."):
            name = key.removeprefix(f"{start}.")
            return f"{kind}: {name}" if kind in ("code", "file") else f"{kind}: {name} {_shown(old)} -> {_shown(new)}"
    return f"key: {key} {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    return "(none)" if value is None else str(value)
