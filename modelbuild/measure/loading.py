"""How long files take to load: each in a fresh process, again and again, in turns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelbuild.measure.processes import MeasuredProcess
from modelbuild.measure.sides import Side
from modelbuild.measure.statistics import Floats


def load_times(sides: Mapping[str, Side], loads: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Load times in ms by side, each `(loads, 1)`: rounds in which each is loaded once, in an order drawn from `rng`.

    They leave out imports and the disk. Raises what the loading of a side raises.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(loads):
        for name in rng.permutation(list(sides)):
            with MeasuredProcess(name, sides[name]) as process:
                times[name].append(process.facts.load_ms)
    return {name: np.array(found).reshape(loads, 1) for name, found in times.items()}
