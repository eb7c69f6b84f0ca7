"""What it costs to export and optimize a model: modelbuild beside Optimum's O2 and Olive, BERT-base by default.

    python benchmarks/build_cost.py [--rounds 5] [--out benchmarks/build_cost.json] [--model bert-base]

A round is each of them once, in an order drawn anew, from the same checkpoint with seeded random weights: the two
stages of modelbuild that export and optimize, each a process as DVC starts it; the whole command, without validation
and with it, and again when nothing changed; `optimum-cli export onnx --optimize O2`, which validates too; and Olive's
conversion and transformer optimization, and again when nothing changed. Optimum and Olive have environments of their
own, which are made from benchmarks/optimum.txt and olive.txt. Run again after an interruption, it goes on.

In the command, stages have the process that imports for them: how long they took there is told besides, without what
was imported while the command still composed its configuration.

Peak memory is that of all processes of a command together; anonymous memory is the part that no file backs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from makers import (
    make_build_folder,
    olive_command,
    optimum_command,
    our_command,
    our_environment,
    our_overrides,
    peer,
    peer_environment,
    write_olive_config,
)
from measuring import Cost, cost_of, spread, spreads, together
from random_models import CHECKPOINTS, Checkpoint, write_checkpoint
from results import plan, run_parts, write

from modelbuild.pipeline.journal import JOURNAL_FILE, read_journal

STAGES = "modelbuild export + optimize"
OPTIMUM = "Optimum O2"
OLIVE = "Olive"
COMMAND = "modelbuild, the whole command"
IN_COMMAND = "modelbuild export + optimize, in the command"
_AGAIN = ", nothing changed"
_VALIDATED = ", validation=quick"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be built, by whose programs, and where."""

    checkpoint: Checkpoint
    source: Path
    scratch: Path
    optimum: Path
    olive: Path

    def empty(self, name: str) -> Path:
        """The folder `name` of the scratch folder, without what an earlier round left in it."""
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def log(self, name: str) -> Path:
        """Where a command's words go."""
        return self.scratch / f"{name}.log"


def stages(task: Task) -> dict[str, Cost]:
    """The two stages, one after the other."""
    folder = task.empty("stages")
    make_build_folder(our_overrides(task.checkpoint, task.source, "optimization=transformer"), folder)
    costs = {
        name: cost_of(our_command("stage", name), folder=folder, env=our_environment(), log=task.log(name))
        for name in ("export", "optimize")
    }
    alone = {f"modelbuild {name} alone": cost for name, cost in costs.items()}
    return {STAGES: together(list(costs.values()))} | alone


def command(task: Task) -> dict[str, Cost]:
    """The whole command in an empty folder, and again."""
    overrides = our_overrides(task.checkpoint, task.source, "optimization=transformer", "validation=off")
    return _twice(COMMAND, task, our_command(*overrides), task.empty("command"), our_environment())


def validated(task: Task) -> dict[str, Cost]:
    """The whole command with the quick validation, in an empty folder."""
    overrides = our_overrides(task.checkpoint, task.source, "optimization=transformer", "validation=quick")
    folder, log = task.empty("validated"), task.log("validated")
    return {COMMAND + _VALIDATED: cost_of(our_command(*overrides), folder=folder, env=our_environment(), log=log)}


def optimum(task: Task) -> dict[str, Cost]:
    """Optimum's command."""
    folder = task.empty("optimum")
    line = optimum_command(task.optimum, task.checkpoint, task.source, folder / "out", "O2")
    return {OPTIMUM: cost_of(line, folder=folder, env=peer_environment(), log=task.log("optimum"))}


def olive(task: Task) -> dict[str, Cost]:
    """Olive's workflow with an empty cache, and again."""
    folder = task.empty("olive")
    line = olive_command(task.olive, write_olive_config(task.checkpoint, task.source, folder))
    return _twice(OLIVE, task, line, folder, peer_environment())


def _twice(name: str, task: Task, line: list[str], folder: Path, env: Mapping[str, str]) -> dict[str, Cost]:
    log = task.log(folder.name)
    return {title: cost_of(line, folder=folder, env=env, log=log) for title in (name, name + _AGAIN)}


CONTESTANTS: dict[str, Callable[[Task], dict[str, Cost]]] = {
    "stages": stages,
    "command": command,
    "validated command": validated,
    "Optimum": optimum,
    "Olive": olive,
}


def parts_of(rounds: int) -> list[str]:
    """What is run, in order: every contestant in each round, in an order that the number of the round draws."""
    return [
        f"round {number}: {name}"
        for number in range(1, rounds + 1)
        for name in np.random.default_rng(number).permutation(list(CONTESTANTS))
    ]


def one_part(task: Task, part: str) -> dict[str, Any]:
    """The costs of one contestant, by name."""
    costs = CONTESTANTS[part.partition(": ")[2]](task)
    for name, cost in costs.items():
        print(f"  {name}: {cost.wall_s:.1f} s, {cost.peak_mib:.0f} MiB", flush=True)
    found: dict[str, Any] = {"costs": {name: asdict(cost) for name, cost in costs.items()}}
    if COMMAND in costs:
        found[IN_COMMAND] = _seconds_in(task.scratch / "command")
    return found


def _seconds_in(workspace: Path) -> float:
    """How long the two stages took in the one build of a workspace, by its journal."""
    (folder,) = (path.parent for path in workspace.glob(f"artifacts/adhoc/*/{JOURNAL_FILE}"))
    finished = {event.stage: event.seconds for event in read_journal(folder) if event.what == "finished"}
    return finished["export"] + finished["optimize"]


def figures(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spread of every cost, and of the ratios of the wall times of each round to Optimum's and to Olive's."""
    costs: dict[str, list[Cost]] = {}
    for part in _in_order(parts):
        for name, cost in part["costs"].items():
            costs.setdefault(name, []).append(Cost(**cost))
    ratios = {
        f"{mine} / {other}": spread(a.wall_s / b.wall_s for a, b in zip(costs[mine], costs[other], strict=True))
        for mine in (STAGES, COMMAND, COMMAND + _VALIDATED)
        for other in (OPTIMUM, OLIVE)
    }
    inside = [part[IN_COMMAND] for part in _in_order(parts) if IN_COMMAND in part]
    ratios |= {
        f"{IN_COMMAND} / {other}": spread(a / b.wall_s for a, b in zip(inside, costs[other], strict=True))
        for other in (OPTIMUM, OLIVE)
    }
    return {
        "costs": {name: spreads(values) for name, values in sorted(costs.items())},
        "in_command_s": spread(inside),
        "wall_time_ratios": ratios,
    }


def _in_order(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(parts, key=lambda part: int(part["part"].split(":")[0].split()[1]))


def main() -> None:
    """Measure, print, and write what was measured."""
    options = {"--model": {"choices": sorted(CHECKPOINTS), "default": "bert-base"}}
    made = plan("build_cost", __doc__, rounds=5, options=options)
    checkpoint = CHECKPOINTS[made.chosen.model]
    source = made.work / "models" / checkpoint.name
    settings = {"model": checkpoint.title, "weights_mib": round(write_checkpoint(checkpoint, source) / (1 << 20))}
    task = Task(
        checkpoint=checkpoint,
        source=source,
        scratch=made.folder("build_cost"),
        optimum=peer("optimum", made.work),
        olive=peer("olive", made.work),
    )
    parts = run_parts(made, settings, parts_of(made.rounds), lambda part: one_part(task, part))
    write(made, parts, figures(parts), **settings)
    shutil.rmtree(task.scratch)


if __name__ == "__main__":
    main()
