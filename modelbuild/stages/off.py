"""What a stage leaves behind that the build has off: a report that says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelbuild.measure.tables import write_tables
from modelbuild.report import Report
from modelbuild.stage_spec import BenchmarkSpec, SidecarSpec, ValidateSpec


def run(spec: SidecarSpec | ValidateSpec | BenchmarkSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """The report of a stage that did nothing, and what else DVC expects in its folder."""
    match spec:
        case SidecarSpec():
            return Report(stage="sidecar", facts={"status": "off", "files": []})
        case ValidateSpec():
            return Report(stage="validate", facts={"status": "off"}, metrics={"checks": 0, "failed": 0})
        case BenchmarkSpec():
            write_tables({}, out)
            return Report(stage="benchmark", facts={"status": "off"}, metrics={})
