"""Which of the candidates that were timed ships, and why the others do not. Pure functions of latencies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from modelbuild.measure.statistics import Floats, compare
from modelbuild.optimization.trials import Trial

_SEED = 0
# Where little is measured nothing can be told apart: what is likely to be so much faster ships all the same.
_NEGLIGIBLE = 0.02


def choose(trials: Mapping[str, Trial], latencies: Mapping[str, Mapping[str, Floats]]) -> str:
    """Which of the candidates, in order from the simplest, ships by `latencies`, in ms by shape and candidate, each
    `(rounds, runs)`. Notes at the others why they do not.
    """
    plain = next(iter(trials))
    if len(trials) == 1:
        return plain
    scores: dict[str, float] = {}
    for kind, trial in trials.items():
        by_shape = {
            shape: compare(found[plain], found[kind], seed=_SEED) for shape, found in latencies.items() if kind != plain
        }
        trial.facts["speedup"] = {shape: asdict(ratio) for shape, ratio in by_shape.items()}
        slower = [shape for shape, ratio in by_shape.items() if ratio.verdict == "slower"]
        if slower:
            ratio = by_shape[slower[0]]
            trial.why = f"slower than {plain} at {slower[0]}: {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
        else:
            scores[kind] = math.fsum(math.log(ratio.median) for ratio in by_shape.values())
    best = max(scores, key=lambda kind: scores[kind])
    chosen = next(kind for kind in scores if kind == best or _tied(latencies, best, kind))
    for kind in scores.keys() - {chosen}:
        trials[kind].why = _lost(latencies, chosen, kind)
    return chosen


def _tied(latencies: Mapping[str, Mapping[str, Floats]], best: str, kind: str) -> bool:
    """Whether all rounds together, of every shape, cannot tell one from the other, and it is no loss worth a word to
    take the other.
    """
    first, second = (_medians(latencies, name) for name in (best, kind))
    ratio = compare(second, first, seed=_SEED)
    return ratio.verdict == "no difference" and ratio.median < 1 + _NEGLIGIBLE


def _lost(latencies: Mapping[str, Mapping[str, Floats]], chosen: str, kind: str) -> str:
    return f"no faster than {chosen}" if _tied(latencies, kind, chosen) else f"slower than {chosen}"


def _medians(latencies: Mapping[str, Mapping[str, Floats]], kind: str) -> Floats:
    """The median of each round of each shape, `(rounds, 1)`: not all shapes were called as often."""
    return np.concatenate([np.median(found[kind], axis=1, keepdims=True) for found in latencies.values()])
