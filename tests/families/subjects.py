"""What checks look at, of a build that is there, with a part of it put in the place of another."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from families.building import FAST

from modelbuild.checks.subject import Subject
from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.resolve import resolve
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import ValidateSpec
from modelbuild.stages import validate


def subjects_of(folder: Path, **instead: Path) -> dict[str, Subject]:
    """The graphs of the build in `folder`, whose checkpoint is in `source` and whose stages are in `build`. `instead`
    are other outputs of stages by name.
    """
    source, made = folder / "source", folder / "build"
    resolved = resolve(compose(("model=path", f"model.source.path={source}", *FAST), made).spec, sha256_file)
    spec = cast(ValidateSpec, stage_specs(resolved, {})["validate"])
    inputs = {name: made / name for name in ("export", "optimize", "sidecar")} | {"source": source} | instead
    return validate._subjects(spec, inputs)
