"""The folders of a workspace, and what makes a build's folder a DVC project of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelbuild.config.location import packaged
from modelbuild.digest import write_text
from modelbuild.pipeline.build_folder import host_error, write_params
from modelbuild.pipeline.fingerprint import host, stage_code, stage_tools
from modelbuild.resolve import ResolvedBuild
from modelbuild.stage_slices import stage_specs

# What git need not see of builds; static, because DVC takes back what it adds itself when a later stage fails.
_IGNORED = """\
/adhoc/
/.modelbuild/
/.sweeps/
/*/.source.json
/*/.journal.jsonl
/*/.*.tmp/
/*/logs/
/*/params.yaml
/*/export
/*/sidecar
/*/optimize
/*/package
/*/validate/validation.json
/*/benchmark/benchmark.json
"""


@dataclass(frozen=True)
class Workspace:
    """A folder with `artifacts/`, one DVC cache and, if the user has any, `conf/`."""

    root: Path

    @property
    def artifacts(self) -> Path:
        """Where builds are: declared ones directly below, the others in `adhoc/`."""
        return self.root / "artifacts"

    @property
    def adhoc(self) -> Path:
        """Where builds from the command line are, a folder each."""
        return self.artifacts / "adhoc"

    @property
    def private(self) -> Path:
        """What modelbuild remembers: locks, digests, DVC's state. For this user only."""
        return self.artifacts / ".modelbuild"

    def build_lock(self, build_id: str) -> Path:
        """The lock of one ad hoc build."""
        return self.locks / f"build-{build_id}"

    def busy_lock(self) -> Path:
        """The lock that every running build shares, and that a collection of garbage wants alone."""
        return self.locks / "busy"

    @property
    def locks(self) -> Path:
        """Where locks are."""
        return self.private / "locks"

    def cache_dir(self) -> Path:
        """The DVC cache that all builds share: the one that DVC is configured to use here."""
        from dvc.config import Config

        configured = Config(str(self.root / ".dvc"))["cache"].get("dir") if (self.root / ".dvc").is_dir() else None
        return Path(configured) if configured else self.root / ".dvc" / "cache"

    def prepare(self) -> None:
        """Make the folders, and the root a DVC project if it is none. Raises HostError where nothing can be written."""
        try:
            self.adhoc.mkdir(parents=True, exist_ok=True)
            self.private.mkdir(mode=0o700, exist_ok=True)
            _write_if_new(self.artifacts / ".gitignore", _IGNORED)
            _write_if_new(self.root / ".dvc" / "config", _root_config(in_git=(self.root / ".git").exists()))
            _write_if_new(self.root / ".dvc" / ".gitignore", "/config.local\n/tmp\n/cache\n")
        except OSError as error:
            raise host_error(error, self.root) from error

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder below `adhoc` for as long as the context lasts, to look at a build that has none."""
        with tempfile.TemporaryDirectory(dir=self.adhoc, prefix=".plan.") as folder:
            yield Path(folder)


def _write_if_new(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


def _root_config(*, in_git: bool) -> str:
    no_scm = "" if in_git else "    no_scm = true\n"
    return f"[core]\n{no_scm}    analytics = false\n    check_update = false\n"


def stage_params(build: ResolvedBuild) -> dict[str, dict[str, Any]]:
    """The content of `params.yaml`: for each stage its spec, the code it runs and the tools that code uses.

    The tools of package are those of all stages: its manifest names them.
    """
    specs = stage_specs(build, host())
    tools = {stage: stage_tools(stage, spec) for stage, spec in specs.items()}
    tools["package"] = {name: version for used in tools.values() for name, version in sorted(used.items())}
    return {
        stage: {**spec.model_dump(mode="json"), "code": stage_code(stage, spec), "tools": tools[stage]}
        for stage, spec in specs.items()
    }


def write_adhoc_project(
    workspace: Workspace, folder: Path, params: Mapping[str, Any], locations: Mapping[str, Path]
) -> None:
    """Make `folder` a DVC project without scm that shares the workspace's cache, with the stages of `dvc.yaml`."""
    try:
        (folder / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
        write_text(folder / ".dvc" / "config", _adhoc_config(workspace, folder))
        write_text(folder / "dvc.yaml", yaml.safe_dump({"stages": adhoc_stages()}, sort_keys=False))
        write_params(folder, params, locations)
    except OSError as error:
        raise host_error(error, folder) from error


def _adhoc_config(workspace: Workspace, folder: Path) -> str:
    cache = os.path.relpath(workspace.cache_dir(), folder / ".dvc")
    return (
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        f"    site_cache_dir = {_quoted(str(workspace.private / 'dvc'))}\n[cache]\n    dir = {_quoted(cache)}\n"
    )


def _quoted(value: str) -> str:
    """A value as ConfigObj reads it, whatever is in it: a comma would make a list, and a hash a comment."""
    return f"'{value}'" if '"' in value else f'"{value}"'


def adhoc_stages() -> dict[str, Any]:
    """The stages of an ad hoc build: those of `dvc.yaml`, without the composition and the folder, and all outputs
    cached.
    """
    declared = yaml.safe_load(packaged("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: _adhoc_stage(stage["do"]) for name, stage in declared.items() if name != "compose"}


def _adhoc_stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in stage.items() if key != "wdir"}
    for kind in ("metrics", "plots"):
        if kind in kept:
            kept[kind] = [
                {path: {key: value for key, value in options.items() if key != "cache"}}
                for entry in kept[kind]
                for path, options in entry.items()
            ]
    return kept
