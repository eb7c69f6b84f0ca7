"""What a sweep costs whose builds share one export: 1, 4 and 16 builds, beside the sum of what they would cost alone.

    python benchmarks/sweep_cost.py [--rounds 5] [--out benchmarks/sweep_cost.json] [--model model=minilm]

The builds differ in their optimization, of which there are four, and in the seed of their validation, of which there
are up to four. In each round every optimization is built alone in an empty workspace; its export is timed by the stage
itself, and what is left of the build's wall time is its rest. A sweep of N builds, in an empty workspace too, is then
compared with one export and the rests of its N builds. Benchmarks are off: they take turns on a machine, whatever is
shared. Run again after an interruption, it goes on.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from makers import our_command, our_environment
from measuring import cost_of, spread
from results import Plan, plan, run_parts, write

from modelbuild.pipeline.journal import Event, read_journal

OPTIMIZATIONS = ("none", "basic", "extended", "transformer")
SEEDS = (0, 1, 2, 3)
# How many optimizations and how many seeds the sweep of so many builds goes through.
SWEEPS = {1: (1, 1), 4: (4, 1), 16: (4, 4)}


def workspace(made: Plan) -> Path:
    """An empty folder to build in."""
    folder = made.work / "sweep_cost"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def alone(made: Plan, optimization: str) -> dict[str, Any]:
    """One build in an empty workspace: its wall time, and that of its export."""
    folder = workspace(made)
    wall = _wall(made, folder, f"optimization={optimization}", f"validation.seed={SEEDS[0]}")
    events = _events(folder)
    export = sum(event.seconds for event in events if event.stage == "export" and event.what == "finished")
    if not export:
        raise SystemExit(f"optimization={optimization}: the journal of the build has no export that finished")
    return {"wall_s": wall, "export_s": export}


def sweep(made: Plan, builds: int) -> dict[str, Any]:
    """A sweep in an empty workspace: its wall time, and how many stages of each kind ran."""
    optimizations, seeds = SWEEPS[builds]
    folder = workspace(made)
    chosen = [
        f"optimization={','.join(OPTIMIZATIONS[-optimizations:])}",
        f"validation.seed={','.join(map(str, SEEDS[:seeds]))}",
    ]
    wall = _wall(made, folder, *(["-m"] if builds > 1 else []), *chosen)
    started = [event.stage for event in _events(folder) if event.what == "started"]
    return {"wall_s": wall, "stages_run": {stage: started.count(stage) for stage in dict.fromkeys(started)}}


def _wall(made: Plan, folder: Path, *arguments: str) -> float:
    flags = [argument for argument in arguments if argument == "-m"]
    rest = [argument for argument in arguments if argument != "-m"]
    command = our_command(*flags, made.chosen.model, "validation=quick", "benchmark=off", *rest)
    cost = cost_of(command, folder=folder, env=our_environment(), log=made.work / "sweep_cost.log")
    print(f"  {' '.join(rest)}: {cost.wall_s:.1f} s", flush=True)
    return cost.wall_s


def _events(folder: Path) -> list[Event]:
    builds = sorted(path.parent for path in (folder / "artifacts" / "adhoc").glob("*/dvc.yaml"))
    return [event for build in builds for event in read_journal(build)]


def one_round(made: Plan) -> dict[str, Any]:
    """Every optimization alone, and every sweep."""
    return {
        "alone": {name: alone(made, name) for name in OPTIMIZATIONS},
        "sweeps": {str(builds): sweep(made, builds) for builds in SWEEPS},
    }


def allowance(singles: Mapping[str, Mapping[str, float]], builds: int) -> float:
    """The seconds of one export and of the rests of the `builds` builds of a sweep, by what they took alone."""
    optimizations, seeds = SWEEPS[builds]
    export = statistics.median(single["export_s"] for single in singles.values())
    rests = [singles[name]["wall_s"] - singles[name]["export_s"] for name in OPTIMIZATIONS[-optimizations:]]
    return export + seeds * sum(rests)


def figures(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spread of wall times, of what sweeps may cost, and of the ratios of each round; and what ran."""
    sweeps = {}
    for builds in SWEEPS:
        walls = [part["sweeps"][str(builds)]["wall_s"] for part in parts]
        allowed = [allowance(part["alone"], builds) for part in parts]
        sweeps[str(builds)] = {
            "wall_s": spread(walls, digits=4),
            "one_export_and_the_rests_s": spread(allowed, digits=4),
            "ratio": spread(wall / most for wall, most in zip(walls, allowed, strict=True)),
            "stages_run": parts[0]["sweeps"][str(builds)]["stages_run"],
        }
    singles = {
        name: {key: spread((part["alone"][name][key] for part in parts), digits=4) for key in ("wall_s", "export_s")}
        for name in OPTIMIZATIONS
    }
    return {"sweeps": sweeps, "alone": singles}


def main() -> None:
    """Measure, print, and write what was measured."""
    options = {"--model": {"default": "model=minilm", "metavar": "OVERRIDE", "help": "what is built (model=minilm)"}}
    made = plan("sweep_cost", __doc__, rounds=5, options=options)
    settings = {"model": made.chosen.model}
    names = [f"round {number}" for number in range(1, made.rounds + 1)]
    parts = run_parts(made, settings, names, lambda name: one_round(made))
    write(made, parts, figures(parts), **settings)
    shutil.rmtree(made.work / "sweep_cost", ignore_errors=True)


if __name__ == "__main__":
    main()
