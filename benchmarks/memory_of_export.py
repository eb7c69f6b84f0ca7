"""How much memory the export of a model takes, against the size of its weights: four BERTs of 12 layers.

    python benchmarks/memory_of_export.py [--rounds 5] [--out benchmarks/memory_of_export.json] [--widths 512 768 ...]

The layers get wider and the graph stays the same, so what grows with the size is due to the weights. The checkpoints
have seeded random weights in fp32 and are written shard by shard. Each export is a process of its own, started as DVC
starts it. Peak memory counts pages of files too, which the system takes back when it needs them; anonymous memory is
what no file backs. Run again after an interruption, it goes on.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from makers import make_build_folder, our_command, our_environment, our_overrides
from measuring import Cost, cost_of, spreads
from random_models import bert_of, write_checkpoint
from results import Plan, plan, positive, run_parts, write

WIDTHS = (512, 768, 1536, 2240)


def parts_of(rounds: int, widths: Sequence[int]) -> list[str]:
    """What is run, in order: every width in each round, in an order that the number of the round draws."""
    return [
        f"round {number}: {width}"
        for number in range(1, rounds + 1)
        for width in np.random.default_rng(number).permutation(list(widths))
    ]


def one_part(made: Plan, part: str) -> dict[str, Any]:
    """What one export cost."""
    checkpoint = bert_of(int(part.partition(": ")[2]))
    source = made.work / "models" / checkpoint.name
    size = write_checkpoint(checkpoint, source)
    folder = made.work / "memory_of_export"
    shutil.rmtree(folder, ignore_errors=True)
    make_build_folder(our_overrides(checkpoint, source), folder)
    log = made.work / "memory_of_export.log"
    cost = cost_of(our_command("stage", "export"), folder=folder, env=our_environment(), log=log)
    shutil.rmtree(folder)
    print(f"  {size / 1e9:.2f} GB: {cost.anonymous_mib:.0f} MiB anonymous, {cost.wall_s:.1f} s", flush=True)
    return {"title": checkpoint.title, "weights_bytes": size, "cost": asdict(cost)}


def figures(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spread of every cost, by model, the smallest first."""
    sizes = {part["weights_bytes"]: part["title"] for part in parts}
    return {
        "models": {
            sizes[size]: {"weights_gb": round(size / 1e9, 2)}
            | spreads([Cost(**part["cost"]) for part in parts if part["weights_bytes"] == size])
            for size in sorted(sizes)
        }
    }


def main() -> None:
    """Measure, print, and write what was measured."""
    options = {"--widths": {"nargs": "+", "type": width, "default": list(WIDTHS), "metavar": "WIDTH"}}
    made = plan("memory_of_export", __doc__, rounds=5, options=options)
    widths = made.chosen.widths
    parts = run_parts(made, {"widths": widths}, parts_of(made.rounds, widths), lambda part: one_part(made, part))
    write(made, parts, figures(parts))


def width(text: str) -> int:
    """A width that attention heads of 64 fill. Raises what argparse shows in its own words."""
    if (number := positive(text)) % 64:
        raise argparse.ArgumentTypeError(f"{text} is no multiple of 64, the width of a head")
    return number


if __name__ == "__main__":
    main()
