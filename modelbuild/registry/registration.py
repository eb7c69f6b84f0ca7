"""What a build is published as in a registry, once it is proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild.errors import ConfigError, PackageError, Problem
from modelbuild.registry.entries import Entry
from modelbuild.registry.references import checked_name, checked_stage
from modelbuild.registry.store import Registry
from modelbuild.registry.versions import Version
from modelbuild.suggest import did_you_mean

KEYS = ("name", "version", "stage", "registry")


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A name in a registry, the version if it is not to be the next one, and the stage to put it into, or none."""

    registry: Registry
    name: str
    version: str | None
    stage: str

    def publish(self, package: Path) -> Entry:
        """Add the package in a folder. Raises what `Registry.add` raises."""
        return self.registry.add(package, self.name, self.version, stage=self.stage)


def registration(values: Mapping[str, Any] | None, workspace: Path) -> Registration | None:
    """What the keys `register.*` of a configuration ask for, before anything is built; None where they ask for nothing.
    A relative folder is taken from `workspace`.

    Raises ConfigError with every key that is unknown or cannot be, and HostError where no registry is known.
    """
    given = {key: value for key, value in (values or {}).items() if value is not None}
    problems = [
        Problem("unknown key", f"register.{key}", did_you_mean(key, KEYS)) for key in given if key not in KEYS
    ] + [
        Problem(f"a text is wanted, got {value!r}", f"register.{key}", f"quote it: register.{key}=\"'{value}'\"")
        for key, value in given.items()
        if key in KEYS and not isinstance(value, str)
    ]
    if given and not problems:
        problems = [*_wrong(given)]
    if problems:
        raise ConfigError.collected(problems)
    if "name" not in given:
        return None
    return Registration(
        registry=Registry(workspace / given["registry"] if "registry" in given else None),
        name=given["name"],
        version=given.get("version"),
        stage=given.get("stage", ""),
    )


def _wrong(given: Mapping[str, str]) -> list[Problem]:
    if "name" not in given:
        rest = [key for key in given if key != "registry"]
        return [Problem("it needs a name", f"register.{rest[0]}", "set register.name=…")] if rest else []
    found = []
    for key, check in (("name", checked_name), ("stage", checked_stage), ("version", Version.parse)):
        try:
            if key in given:
                check(given[key])
        except PackageError as error:
            (problem,) = error.problems
            found.append(Problem(problem.what, f"register.{key}", problem.hint))
    return found
