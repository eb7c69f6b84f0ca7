"""session=auto: the presets are measured on the graphs that ship, and the best of them is the build's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.interface import Interface
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import MeasuredGraph
from modelbuild.measure.presets import best_preset
from modelbuild.measure.statistics import rounded
from modelbuild.spec import Benchmark
from modelbuild.stage_spec import Timing

_SHAPES = ((1, 16), (1, 128), (4, 128))
_PLAN = Benchmark(kind="quick", rounds=5, runs=5, warmup=2)


def best(timing: Timing, components: Mapping[str, Any], libraries: Sequence[str], out: Path) -> dict[str, Any]:
    """The preset that is best for all graphs in the folder `out` together, as `chosen`, why, and what was measured."""
    graphs = [
        MeasuredGraph(
            name=name, several=True, file=out / facts["file"], interface=Interface.of_facts(facts["interface"])
        )
        for name, facts in components.items()
    ]
    with exclusive("benchmark", _say):
        found = best_preset(graphs, timing.session, timing.providers, libraries, _SHAPES, _PLAN)
    _say(f"session: {found.preset}: {found.reason}")
    chosen: dict[str, Any] = rounded({"chosen": found.preset, **found.facts()})
    return chosen


def _say(line: str) -> None:
    print(f"optimize: {line}", file=sys.stderr, flush=True)
