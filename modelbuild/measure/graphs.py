"""The graphs of a build that are measured, and what each is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelbuild.interface import Interface
from modelbuild.report import read_report
from modelbuild.samples import Array, sample
from modelbuild.sizes import longest, typical_sizes
from modelbuild.spec import Benchmark

Shape = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a graph is given at once: `batch` rows of `length` positions (None where it has no positions)."""

    label: str
    graph: str
    phase: str
    batch: int
    length: int | None
    inputs: dict[str, Array]


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

    def label(self, phase: str, batch: int, length: int | None) -> str:
        """What a case is called: `b4_s128`, `decode_b4_s128`, `decoder_model_b4_s16`; of images `b4`."""
        parts = (self.name if self.several else "", phase, f"b{batch}", f"s{length}" if length is not None else "")
        return "_".join(filter(None, parts))

    def cases(self, shapes: Sequence[Shape], rng: np.random.Generator) -> Iterator[Case]:
        """Random inputs from `rng` for each of `shapes`, batch by length, in each phase, as far as the graph allows:
        shapes that it takes as one and the same are one case.
        """
        seen = set()
        wanted = [(name, batch, *part) for batch, length in shapes for name, part in self.phases(length).items()]
        order = list(self.phases(1))
        for phase, batch, new, past in sorted(wanted, key=lambda item: order.index(item[0])):
            sizes = typical_sizes(self.interface, batch=batch, length=new, past=past)
            rows = max((sizes[axis.name] for axis in self.interface.axes_of("batch")), default=batch)
            of_kind = self.interface.axes_of("past" if past else "length")
            length = max((sizes[axis.name] for axis in of_kind), default=None)
            label = self.label(phase, rows, length)
            if label not in seen:
                seen.add(label)
                inputs = sample(self.interface, sizes, mask="right", rng=rng).inputs
                yield Case(label=label, graph=self.name, phase=phase, batch=rows, length=length, inputs=inputs)

    def cut(self, lengths: Sequence[int]) -> list[str]:
        """For every one of `lengths` that the graph does not take, a line that says what it is given instead."""
        most = longest(self.interface) if self.interface.axes_of("length") else max(lengths)
        return [f"{self.name} takes {most} positions at most: {most}, not {n}, measured" for n in lengths if n > most]


def shapes_of(plan: Benchmark) -> tuple[Shape, ...]:
    """Each batch size of `plan` with each length, the short ones first."""
    return tuple((batch, length) for length in plan.sequence_lengths for batch in plan.batch_sizes)


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
