"""`python -m modelbuild stage NAME`: what DVC runs for a stage, in the folder of a build."""

from __future__ import annotations

import os
from pathlib import Path

from modelbuild.errors import ConfigError
from modelbuild.pipeline.runner import require_stage, run_stage


def run(words: list[str]) -> int:
    """Run the stage named in `words` in the current folder. Returns 0."""
    if len(words) != 1:
        raise ConfigError("stage takes the name of one stage", hint="it is run by DVC")
    os.environ["HF_HUB_OFFLINE"] = (
        "1"  # a stage reads what it was given: no library may fetch what it would rather have
    )
    run_stage(require_stage(words[0]), Path.cwd())
    return 0
