"""What is in the folder of a build beside the folders of its stages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modelbuild.digest import write_json, write_text
from modelbuild.errors import HostError, PackageError

PARAMS_FILE = "params.yaml"
LOCATION_FILE = ".source.json"
LOG_FOLDER = "logs"


def write_params(folder: Path, params: Mapping[str, Any], locations: Mapping[str, Path]) -> None:
    """Write `params.yaml`, and beside it where files are on this machine, which no result depends on."""
    write_text(folder / PARAMS_FILE, yaml.safe_dump(dict(params), sort_keys=True, allow_unicode=True))
    write_json(folder / LOCATION_FILE, {name: str(path) for name, path in locations.items()})


def read_locations(folder: Path) -> dict[str, Path]:
    """Where files are, by what stages call them, as the last composition of the build in `folder` found them."""
    try:
        found: dict[str, str] = json.loads((folder / LOCATION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackageError(
            "the build was not composed here", where=str(folder), hint="run it with modelbuild or dvc repro"
        ) from error
    return {name: Path(path) for name, path in found.items()}


def host_error(error: OSError, where: Path) -> HostError:
    """An operating system error as one of ours: disk full, no permission, read-only."""
    path = error.filename or where
    return HostError(
        f"{error.strerror or error}", where=str(path), hint="nothing was published; free or permit it and run again"
    )
