"""A build through all stages in this process: what the command line does, without DVC and new processes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.pipeline import STAGE_INPUTS
from modelbuild.report import write_report
from modelbuild.resolve import resolve
from modelbuild.stage_slices import stage_specs
from modelbuild.stages import REPORTS, Stage
from modelbuild.stages.which import module_of

FAST = ("validation=quick", "benchmark=off")


def build(folder: Path, *overrides: str) -> Path:
    """The package that `overrides` build in the current folder, made in `folder`, with what other stages made beside
    it.

    Raises what a stage raises; `package` refuses what validation did not pass.
    """
    resolved = resolve(compose(overrides, Path.cwd()).spec, sha256_file)
    for name, spec in stage_specs(resolved, {}).items():
        stage, out = cast(Stage, importlib.import_module(module_of(name, spec))), folder / name
        out.mkdir()
        inputs = {dependency: folder / dependency for dependency in STAGE_INPUTS[name]}
        report = stage.run(spec, inputs | resolved.locations(), out)
        if name in REPORTS:
            write_report(report, out / REPORTS[name])
    return folder / "package"
