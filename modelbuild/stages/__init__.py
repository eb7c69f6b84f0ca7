"""The stages of a build, in order. Each is a module with a function `run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from modelbuild.report import Report

STAGES: dict[str, str] = {
    "export": "modelbuild.stages.export",
    "sidecar": "modelbuild.stages.sidecar",
    "optimize": "modelbuild.stages.optimize",
    "validate": "modelbuild.stages.validate",
    "benchmark": "modelbuild.stages.benchmark",
    "package": "modelbuild.stages.package",
}
# What runs for a stage that the build has off. It imports nothing large, and depends on nothing of the stage.
OFF = "modelbuild.stages.off"
# The report of each stage in its folder. package has none: its manifest is a record of its own.
REPORTS: dict[str, str] = {
    "export": "report.json",
    "sidecar": "report.json",
    "optimize": "report.json",
    "validate": "validation.json",
    "benchmark": "benchmark.json",
}


class Stage(Protocol):
    """What a stage module has.

    `run` does the work: it reads `spec` and `inputs` (folders by name: the stages it depends on, and `source`, the
    model's folder, where there is one), writes only into the empty folder `out`, and returns what it found. A check
    that failed is data, not an exception.
    """

    def run(self, spec: Any, inputs: Mapping[str, Path], out: Path) -> Report: ...
