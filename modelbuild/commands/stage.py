"""`python -m modelbuild stage NAME`: what DVC runs for a stage, in the folder of a build."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from modelbuild.errors import ConfigError
from modelbuild.own_process import die_with_parent
from modelbuild.pipeline.warm import hand_over
from modelbuild.quick_imports import import_quickly

# What a stage's libraries make as they are imported lives as long as the stage: to look through it for garbage again
# and again would be a twentieth of an export.
_COLLECT_AFTER = (500_000, 20, 100)


def run(words: list[str]) -> int:
    """Run the stage named in `words` in the current folder, or have it run by the process that imports for this build.
    Returns its exit code; raises the error of a stage that ran here.
    """
    if len(words) != 1:
        raise ConfigError("stage takes the name of one stage", hint="it is run by DVC")
    die_with_parent()
    os.environ["HF_HUB_OFFLINE"] = (
        "1"  # a stage reads what it was given: no library may fetch what it would rather have
    )
    done = hand_over(words[0])
    if done is not None:
        return done
    from modelbuild.pipeline.runner import require_stage, run_stage

    gc.set_threshold(*_COLLECT_AFTER)
    gc.enable()
    import_quickly()
    run_stage(require_stage(words[0]), Path.cwd())
    return 0
