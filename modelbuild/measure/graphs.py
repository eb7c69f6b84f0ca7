"""The graphs of a build that are measured, and what each is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelbuild.interface import Interface
from modelbuild.report import read_report


@dataclass(frozen=True, kw_only=True)
class MeasuredGraph:
    """One graph to be measured: its name, whether it is one of several, its file and what it takes."""

    name: str
    several: bool
    file: Path
    interface: Interface

    def phases(self, length: int) -> dict[str, tuple[int, int]]:
        """What is measured, by name: how many positions are new, and how many are in the cache.

        A decoder has two phases: it reads what it is given, and then makes one token at a time. Where another graph
        makes the cache, it has the second alone.
        """
        past = self.interface.axes_of("past")
        if not past:
            return {"": (length, 0)}
        empty = all(axis.smallest == 0 for axis in past)
        return ({"prefill": (length, 0)} if empty else {}) | {"decode": (1, length)}

    def label(self, phase: str, size: int) -> str:
        """What a case is called: `b4`, `decode_b4`, `decoder_model_b4`."""
        return "_".join(filter(None, (self.name if self.several else "", phase, f"b{size}")))


def measured_graphs(optimized: Path) -> list[MeasuredGraph]:
    """Every graph that ships."""
    components = read_report(optimized / "report.json").facts["components"]
    return [
        MeasuredGraph(
            name=name,
            several=len(components) > 1,
            file=optimized / facts["file"],
            interface=Interface.of_facts(facts["interface"]),
        )
        for name, facts in components.items()
    ]
