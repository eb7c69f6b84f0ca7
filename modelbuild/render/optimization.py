"""How the graphs of a package were optimized, for people: in a line, and in a table of all that was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def lines(optimization: Mapping[str, Any]) -> list[str]:
    """A line for each graph that was searched for or reduced; of one among several, it says first which."""
    found = []
    for name, facts in optimization.items():
        said = [text for text in (_searched(facts), _reduced(facts)) if text]
        if said:
            found.append(f"{f'{name}: ' if len(optimization) > 1 else ''}{'; '.join(said)}")
    return found


def tried(optimization: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every candidate of every search, in order: its graph, its kind, how many nodes it has, its latencies in ms and
    its speedups over the baseline by shape, and what became of it.
    """
    return [
        {
            "graph": name,
            "kind": kind,
            "nodes": trial.get("nodes"),
            "latency_ms": trial.get("latency_ms", {}),
            "speedup": {shape: ratio["median"] for shape, ratio in trial.get("speedup", {}).items()},
            "result": trial["why"] or "ships",
        }
        for name, facts in optimization.items()
        for kind, trial in facts.get("search", {}).get("candidates", {}).items()
    ]


def baselines(optimization: Mapping[str, Any]) -> list[str]:
    """For each search, the candidate that the others are compared with."""
    return [facts["search"]["baseline"] for facts in optimization.values() if "search" in facts]


def _searched(facts: Mapping[str, Any]) -> str:
    if "search" not in facts:
        return ""
    chosen, trials = facts["search"]["chosen"], facts["search"]["candidates"]
    timed = sum("latency_ms" in trial for trial in trials.values())
    ratios = [ratio["median"] for ratio in trials[chosen].get("speedup", {}).values()]
    mean = math.exp(math.fsum(map(math.log, ratios)) / max(len(ratios), 1))
    faster = f"; {mean:.2f}x the speed of {facts['search']['baseline']}" if ratios else ""
    busy = " (other work disturbed the timing)" if facts["search"]["disturbed"] else ""
    return f"{chosen}, of {len(trials)} tried and {timed} timed{faster}{busy}"


def _reduced(facts: Mapping[str, Any]) -> str:
    if "precision" not in facts:
        return ""
    reduced = facts["precision"]
    kept = len(reduced["kept_fp32"])
    return f"{reduced['layers'] - kept} of {reduced['layers']} linear layers in {reduced['kind']}" + (
        f", {kept} kept in fp32" if kept else ""
    )
