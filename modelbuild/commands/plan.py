"""`python -m modelbuild plan [overrides]`: what would run and what is cached. Runs no stage."""

from __future__ import annotations

from pathlib import Path

from modelbuild.config.compose import compose_sweep
from modelbuild.digest import sha256_json
from modelbuild.pipeline import STAGE_INPUTS
from modelbuild.pipeline.driver import plan
from modelbuild.pipeline.project import Workspace
from modelbuild.render.terminal import PlannedStage, print_plan


def run(words: list[str]) -> int:
    """Print the plan of every build that the overrides in `words` ask for (a sweep has several). Returns 0."""
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    workspace = Path.cwd()
    requests = compose_sweep([word for word in words if word not in ("-m", "--multirun")], workspace)
    seen: dict[str, str] = {}
    plans = {}
    for request in requests:
        build, params, states = plan(request.spec, Workspace(workspace))
        identities: dict[str, str] = {}
        rows = []
        for state in states:
            inputs = {name: identities[name] for name in STAGE_INPUTS[state.stage]}
            identity = identities[state.stage] = sha256_json([state.stage, params[state.stage], inputs])
            shared = state.status == "run" and identity in seen
            rows.append(
                PlannedStage(
                    stage=state.stage, status="shared" if shared else state.status, shared_with=seen.get(identity, "")
                )
            )
            seen.setdefault(identity, build.build_id())
        plans[build.build_id()] = rows
    print_plan(plans)
    return 0
