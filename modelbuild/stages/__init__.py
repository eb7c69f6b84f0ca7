"""The stages of a build, in order. Each is a module with the same three names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from modelbuild.report import Report

STAGES: dict[str, str] = {
    "export": "modelbuild.stages.export",
    "sidecar": "modelbuild.stages.sidecar",
    "optimize": "modelbuild.stages.optimize",
    "validate": "modelbuild.stages.validate",
    "benchmark": "modelbuild.stages.benchmark",
    "package": "modelbuild.stages.package",
}


class Stage(Protocol):
    """What a stage module has.

    `SPEC` is the type of what it depends on, `REPORT` the name of its report's file in its folder (None: it writes
    its own record), and `run` does the work: it reads `spec` and `inputs` (folders by name: the stages it depends on,
    and `source`, the model's folder, where there is one), writes only into the empty folder `out`, and returns what
    it found. A check that failed is data, not an exception.
    """

    SPEC: type[BaseModel]
    REPORT: str | None

    def run(self, spec: Any, inputs: Mapping[str, Path], out: Path) -> Report: ...
