"""Which module does the work of a stage: its own, or the one for stages that a build has off."""

from __future__ import annotations

from modelbuild.stage_spec import BenchmarkSpec, SidecarSpec, ValidateSpec
from modelbuild.stages import OFF, STAGES
from modelbuild.strict import Strict


def is_off(spec: Strict) -> bool:
    """Whether the stage that depends on `spec` is one that the build has off."""
    match spec:
        case SidecarSpec():
            return spec.sidecar.kind == "off"
        case ValidateSpec():
            return spec.validation.kind == "off"
        case BenchmarkSpec():
            return spec.benchmark.kind == "off"
    return False


def module_of(stage: str, spec: Strict) -> str:
    """The module whose `run` does the work of `stage` for `spec`."""
    return OFF if is_off(spec) else STAGES[stage]
