"""How much of a model's meaning a candidate keeps: the direction of sentences, their neighbours, the best class.

Batches of both sides in, figures and a verdict out. Pure numpy: the gate and the search for layers to leave in fp32
measure the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modelbuild.agreement import distance, divergence, over_positions, pooled, rank_agreement
from modelbuild.interface import Interface, Output
from modelbuild.parity import Values, element
from modelbuild.report import Check
from modelbuild.samples import Batch

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]


class Asked(Protocol):
    """What a reduced precision asks, as `precision_spec` has it."""

    @property
    def min_cosine(self) -> float: ...
    @property
    def min_top_1(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One output over all batches: how many were `compared`, rows (`embeddings`, `values`) or places with a best class
    (`scores`).

    `value` is the worst of what is asked of it, and is at least `asked`: for `scores` the share whose best class is the
    reference's, else the cosine of the row that turned most. `more` are all figures by name; `where` is the worst case;
    `unit` is what was counted where that is not rows.
    """

    output: str
    compared: int
    value: float
    asked: float
    where: str
    more: Mapping[str, float]
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Whether what was asked is given. A value that is not a number is not."""
        return self.compared > 0 and self.value >= self.asked

    def line(self, what: str, *, named: bool) -> str:
        """The figures for people: `worst cosine 0.993 of 200 sentences, mean cosine 0.998, rank 0.995`."""
        (first, *others) = [f"{name.replace('_', ' ')} {_short(value)}" for name, value in self.more.items()] or [""]
        told = ", ".join([f"{first or 'nothing'} of {self.compared} {self.unit or what}", *others])
        return f"{self.output}: {told}" if named else told

    def check(self, what: str) -> Check:
        """A check of what is lacking to 1, at most what may be."""
        return Check(
            name=f"accuracy.{self.output}",
            passed=self.kept,
            compared=f"{self.compared} {self.unit or what}",
            worst=1 - self.value,
            limit=1 - self.asked,
            where=self.where,
        )


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The figures of every output that matters: those that have a meaning; where none has, all of them."""

    figures: tuple[Figures, ...]

    @property
    def kept(self) -> bool:
        """Whether every output gives what was asked of it."""
        return all(figures.kept for figures in self.figures)

    @property
    def worst(self) -> float:
        """What the worst output gives, beyond or below what was asked of it: negative where it is not kept.

        The larger, the better: what to search by.
        """
        return min((f.value - f.asked if np.isfinite(f.value) else -np.inf for f in self.figures), default=0.0)

    def checks(self, what: str) -> tuple[Check, ...]:
        """A check for every output that matters; `what` says what was compared."""
        return tuple(figures.check(what) for figures in self.figures)

    def line(self, what: str) -> str:
        """All figures in one line for people."""
        return "; ".join(figures.line(what, named=len(self.figures) > 1) for figures in self.figures)

    def facts(self) -> dict[str, dict[str, float]]:
        """The figures by output and name, as plain numbers."""
        return {f.output: {"compared": f.compared, "asked": f.asked, **f.more} for f in self.figures}


def accuracy_of(interface: Interface, pairs: Iterable[tuple[Batch, Outputs, Outputs]], precision: Asked) -> Accuracy:
    """The accuracy of a candidate on batches, each with the outputs of the reference and then those of the candidate,
    by name.

    An output of another shape than the reference's, or with a value that is not finite where the reference's is,
    keeps nothing.
    """
    tallies = {output.name: _tally(output) for output in what_matters(interface)}
    for batch, reference, candidate in pairs:
        for tally in tallies.values():
            tally.add(_values(batch, tally.output, reference[tally.output.name], candidate[tally.output.name]))
    return Accuracy(figures=tuple(tally.figures(precision) for tally in tallies.values()))


def what_matters(interface: Interface) -> tuple[Output, ...]:
    """The outputs that have a meaning; where none has, all."""
    return tuple(output for output in interface.outputs if output.meaning != "values") or interface.outputs


def _values(batch: Batch, output: Output, reference: Array, candidate: Array) -> Values:
    placed, valid = batch.placed(output, reference)
    mine = batch.placed(output, candidate)[0] if candidate.shape == reference.shape else candidate
    return Values(output=output.name, case=batch.label, candidate=mine, reference=placed, oracle=None, valid=valid)


def _tally(output: Output) -> _Rows | _Classes:
    return _Classes(output=output) if output.meaning == "scores" else _Rows(output=output)


def _broken(values: Values) -> bool:
    if values.candidate.shape != values.reference.shape:
        return True
    mine, reference, _ = values.at_valid
    return bool((~np.isfinite(mine) & np.isfinite(reference)).any())


@dataclass(kw_only=True)
class _Rows:
    """One vector for each row, the mean of its valid positions: its cosine with the reference's, and the order of their
    similarities.
    """

    output: Output
    ours: list[Array] = field(default_factory=list)
    theirs: list[Array] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, values: Values) -> None:
        rows = np.flatnonzero(values.valid.reshape(len(values.valid), -1).any(axis=1))
        if _broken(values):
            self.wrong.append(f"{values.case}: another shape, or not finite")
        elif len(rows):
            self.ours += list(pooled(values, values.candidate, rows))
            self.theirs += list(pooled(values, values.reference, rows))
            self.places += [f"{values.case}, row {row}" for row in rows]

    def figures(self, precision: Asked) -> Figures:
        asked = precision.min_cosine
        if self.wrong or not self.ours:
            where = self.wrong[0] if self.wrong else "nothing was compared"
            nothing = {"worst_cosine": float("nan")}
            return Figures(
                output=self.output.name, compared=0, value=float("nan"), asked=asked, where=where, more=nothing
            )
        cosines = np.array([1 - float(distance(t, o)) for t, o in zip(self.theirs, self.ours, strict=True)])
        at = int(np.argmin(cosines))
        more = {"worst_cosine": float(cosines[at]), "mean_cosine": float(cosines.mean())}
        if len({len(vector) for vector in self.ours}) == 1 and len(self.ours) > 2:
            more["rank"] = rank_agreement(np.stack(self.ours), np.stack(self.theirs))
        return Figures(
            output=self.output.name,
            compared=len(cosines),
            value=float(cosines[at]),
            asked=asked,
            where=f"{self.places[at]}: cosine {cosines[at]:.4f}",
            more=more,
        )


@dataclass(kw_only=True)
class _Classes:
    """At each place the best of the scores on the last axis, and the divergence of their distribution."""

    output: Output
    compared: int = 0
    same: int = 0
    divergences: list[float] = field(default_factory=list)
    largest: float = 0.0
    first: str = ""
    broken: bool = False

    def add(self, values: Values) -> None:
        if _broken(values):
            self.broken, self.first = True, f"{values.case}: another shape, or not finite"
            return
        if values.valid.ndim == 2 and values.reference.ndim == 2:
            values = over_positions(values)
        mine, truth, _ = values.at_valid
        if truth.ndim < 2 or not truth.size:
            mine, truth = mine.reshape(len(mine), -1), truth.reshape(len(truth), -1)
        right = mine.argmax(axis=-1) == truth.argmax(axis=-1)
        self.compared += right.size
        self.same += int(right.sum())
        found = np.maximum(divergence(truth, mine), 0.0)
        self.divergences.append(float(found.sum()))
        self.largest = max(self.largest, float(found.max(initial=0.0)))
        if not right.all() and not self.first:
            at = np.unravel_index(int(np.argmin(right)), right.shape)
            best = f"{int(mine[at].argmax())}, the original's {int(truth[at].argmax())}"
            self.first = f"{values.case}, {element(values, at)}: {best}"

    def figures(self, precision: Asked) -> Figures:
        share = float("nan") if self.broken or not self.compared else self.same / self.compared
        return Figures(
            output=self.output.name,
            compared=0 if self.broken else self.compared,
            value=share,
            asked=precision.min_top_1,
            where=self.first if self.compared or self.broken else "nothing was compared",
            more={
                "top_1": share,
                "mean_KL": sum(self.divergences) / max(self.compared, 1),
                "largest_KL": self.largest,
            },
            unit="best classes",
        )


def _short(value: float) -> str:
    """Four digits after the point where it is near 1, for there they tell."""
    return f"{value:.4f}" if 0.1 < abs(value) < 10 else f"{value:.2g}"
