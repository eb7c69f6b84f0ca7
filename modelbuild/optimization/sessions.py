"""session=auto: the presets are measured on the graphs that ship, and the best of them is the build's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from modelbuild.interface import Interface
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import MeasuredGraph
from modelbuild.measure.presets import PresetLatencies, demands, preset_latencies, preset_settings, recommend
from modelbuild.measure.statistics import rounded
from modelbuild.spec import Benchmark
from modelbuild.stage_spec import Timing

_SHAPES = ((1, 16), (1, 128), (4, 128))
_PLAN = Benchmark(kind="quick", rounds=7, runs=3, warmup=2)


def best(timing: Timing, components: Mapping[str, Any], libraries: Sequence[str], out: Path) -> dict[str, Any]:
    """The preset that is best for all graphs in the folder `out` together, as `chosen`, why, and what was measured."""
    settings = preset_settings(timing.session, timing.providers.choices(), libraries)
    with exclusive("benchmark", _say):
        measured = [_latencies(timing, name, facts, settings, out) for name, facts in components.items()]
    found = recommend(reduce(PresetLatencies.joined, measured), demands(settings), seed=_PLAN.seed)
    _say(f"session: {found.preset}: {found.reason}")
    facts: dict[str, Any] = rounded({"chosen": found.preset, **found.facts()})
    return facts


def _latencies(
    timing: Timing, name: str, facts: Mapping[str, Any], settings: Mapping[str, Any], out: Path
) -> PresetLatencies:
    graph = MeasuredGraph(
        name=name, several=True, file=out / facts["file"], interface=Interface.of_facts(facts["interface"])
    )
    providers = timing.providers
    return preset_latencies(graph, settings, providers.choices(), providers.allow_fallback, _SHAPES, _PLAN)


def _say(line: str) -> None:
    print(f"optimize: {line}", file=sys.stderr, flush=True)
