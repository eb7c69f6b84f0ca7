"""`python -m modelbuild why [overrides]`: why a stage would run: which key, file, tool or code changed."""

from __future__ import annotations

from pathlib import Path

from modelbuild.config.compose import compose
from modelbuild.pipeline.driver import plan
from modelbuild.pipeline.project import Workspace
from modelbuild.pipeline.why import locked_builds, nearest, reasons
from modelbuild.render.terminal import print_why


def run(words: list[str]) -> int:
    """Print, for the build that the overrides in `words` ask for, the state of each stage and what changed. Returns
    0.
    """
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    workspace = Workspace(Path.cwd())
    build, params, states = plan(compose(words, workspace.root).spec, workspace)
    against, locked = nearest(build.build_id(), params, locked_builds(workspace))
    changed = {state.stage: reasons(state, params[state.stage], locked, states) for state in states}
    print_why(build.build_id(), against, states, changed)
    return 0
