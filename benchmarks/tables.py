"""Figures as they are written on pages: medians with their ranges, tables, and what was measured on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
Results = Mapping[str, Result]


def spelled(figure: Mapping[str, float], unit: str = "") -> str:
    """A median with its range: `8.4 s (8.1 to 9.0)`."""
    text = f"{figure['median']:.4g} {unit}".strip()
    return f"{text} ({figure['lowest']:.4g} to {figure['highest']:.4g})"


def ratio(figure: Mapping[str, Any]) -> str:
    """A ratio with its interval: `1.21 (1.19 to 1.24)`."""
    return f"{figure['median']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *body = rows
    rules = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *body))


def measured_on(result: Result) -> str:
    """One line: how often, when, and on what."""
    machine, versions = result["machine"], result["versions"]
    loads = result["load_average_before_each_part"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "transformers"))
    return (
        f"{result['rounds']} rounds, {result['date']}, {machine['processor']} (family {machine['family']}), "
        f"{machine['cores']} cores, {', '.join(machine['isa'])}, {machine['memory_gib']} GiB, Python "
        f"{versions['python']}, {names}; load average before each part {min(loads)} to {max(loads)}. "
        f"[Result](../benchmarks/{result['benchmark']}.json), [script](../benchmarks/{result['benchmark']}.py)."
    )
