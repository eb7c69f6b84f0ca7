"""`python -m modelbuild compose NAME`: the first DVC stage of a declared build: its parameters, from its overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from modelbuild.config.compose import compose
from modelbuild.errors import ConfigError
from modelbuild.pipeline.build_folder import PARAMS_FILE, write_params
from modelbuild.pipeline.driver import resolve_here
from modelbuild.pipeline.project import Workspace, stage_params
from modelbuild.preflight import require_host
from modelbuild.suggest import did_you_mean


def run(words: list[str]) -> int:
    """Write `artifacts/<name>/params.yaml` of the declared build named in `words`, in the current workspace. Returns
    0.
    """
    root = Path.cwd()
    if len(words) != 1 or not (root / PARAMS_FILE).is_file():
        raise ConfigError(
            "compose takes the name of a declared build", where=str(root), hint="it is run by 'dvc repro'"
        )
    declared = yaml.safe_load((root / PARAMS_FILE).read_text(encoding="utf-8")) or {}
    request = compose(_overrides(declared.get("builds", {}), words[0]), root)
    if request.registration:
        hint = f"publish it afterwards: python -m modelbuild registry add artifacts/{words[0]}/package NAME"
        raise ConfigError("a declared build is not published by dvc repro", where=f"builds.{words[0]}", hint=hint)
    require_host(request.spec.providers)
    workspace = Workspace(root)
    workspace.prepare()
    build = resolve_here(request.spec, workspace)
    folder = workspace.artifacts / words[0]
    folder.mkdir(exist_ok=True)
    write_params(folder, stage_params(build), build.locations())
    return 0


def _overrides(builds: dict[str, Any], name: str) -> list[str]:
    if name not in builds:
        raise ConfigError(f"there is no declared build '{name}'", where=PARAMS_FILE, hint=did_you_mean(name, builds))
    overrides = builds[name]
    if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(
            f"builds.{name} must be a list of overrides", where=PARAMS_FILE, hint="such as [model=bert, opset=17]"
        )
    return overrides
