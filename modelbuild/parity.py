"""How far a candidate may be from PyTorch: errors against an fp64 oracle, at valid positions; or, where its precision
is reduced, against its own errors on what it is judged by. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from modelbuild.report import Check

Array = npt.NDArray[Any]


class AnyRule(Protocol):
    """What decides whether an output agrees. `usual_is` is what reports call the error that is usual."""

    usual_is: ClassVar[str]

    @property
    def absolute(self) -> bool:
        """Whether PyTorch fp32 is what is compared with, and no oracle is wanted."""
        ...

    @property
    def slack(self) -> float:
        """How far a module may be off beside PyTorch's own error, as a share of its largest value, and not be wrong."""
        ...

    def seen(self, usual: Usual, values: Values) -> Usual:
        """What is usual for an output after one case more."""
        ...

    def allowed(self, values: Values, usual: Usual) -> Array:
        """The largest error allowed for each value at valid positions."""
        ...

    def between(self, values: Values, usual: Usual, *, again: bool) -> float:
        """How far two results of the candidate may be apart; `again` where nothing changed between them."""
        ...

    def tie(self, limit: float) -> float:
        """How close two scores are equally good, where each may be off by `limit`."""
        ...

    def other_tokens(self, count: int) -> int:
        """How many of so many greedy tokens may be others than PyTorch's, ties aside."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When an output agrees.

    Without `rtol` and `atol`: its largest error against the fp64 oracle is at most `oracle_factor` times PyTorch's
    own fp32 error there, plus `floor` times the largest reference value. With them: NumPy's `allclose` rule against
    PyTorch fp32.
    """

    oracle_factor: float
    floor: float
    rtol: float | None = None
    atol: float | None = None
    usual_is: ClassVar[str] = "pytorch_own_error"

    @property
    def absolute(self) -> bool:
        """Whether tolerances replace the oracle."""
        return self.rtol is not None or self.atol is not None

    @property
    def slack(self) -> float:
        """None."""
        return 0.0

    def seen(self, usual: Usual, values: Values) -> Usual:
        """PyTorch's own error and the largest value, the largest so far."""
        return usual.seen(values)

    def allowed(self, values: Values, usual: Usual) -> Array:
        """The largest error allowed for each value at valid positions.

        Where there is no oracle the candidate is compared with PyTorch fp32, and may use PyTorch's usual error once
        more.
        """
        _, torch32, torch64 = values.at_valid
        if self.absolute:
            return np.asarray((self.atol or 0.0) + (self.rtol or 0.0) * np.abs(torch32) + np.finfo(np.float64).tiny)
        usual = usual.seen(values)
        factor = self.oracle_factor + (torch64 is None)
        return np.broadcast_to(factor * usual.error + self.floor * usual.scale, torch32.shape)

    def between(self, values: Values, usual: Usual, *, again: bool) -> float:
        """Twice what each may be off from the truth."""
        return 2 * float(np.max(self.allowed(values, usual)))

    def tie(self, limit: float) -> float:
        """Twice what each may be off."""
        return 2 * limit

    def other_tokens(self, count: int) -> int:
        """None."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Values:
    """One output in one case, from the candidate, from PyTorch in fp32 and from PyTorch in fp64, all `(batch, …)`.

    `oracle` is None where fp64 would cost too much. `valid` is `(batch, sequence)` for outputs with a sequence axis,
    and `(batch,)` for others: what is elsewhere means nothing.
    """

    output: str
    case: str
    candidate: Array
    reference: Array
    oracle: Array | None
    valid: npt.NDArray[np.bool_]

    @cached_property
    def at_valid(self) -> tuple[Array, Array, Array | None]:
        """Candidate, reference and oracle as float64, `(valid positions, …)`."""
        arrays = (self.candidate, self.reference, self.oracle)
        mine, torch32, torch64 = (None if a is None else a[self.valid].astype(np.float64) for a in arrays)
        assert mine is not None
        assert torch32 is not None
        return mine, torch32, torch64


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found in one case: `value` may be at most `limit`; `where` names the worst element."""

    check: str
    value: float
    limit: float
    where: str

    @property
    def badness(self) -> float:
        """How much of the limit is used: above 1 fails; a value that is not finite is infinitely bad."""
        if not np.isfinite(self.value) or (self.limit == 0 and self.value > 0):
            return float("inf")
        return self.value / self.limit if self.limit else 0.0


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What is usual for an output: PyTorch's own fp32 error and the largest value, the largest that were seen so far.

    A batch with few valid values may by chance have a small error and small values, where the arithmetic that led to
    them is the same.
    """

    error: float = 0.0
    scale: float = 0.0

    def seen(self, values: Values) -> Usual:
        """The same after one case more."""
        _, torch32, torch64 = values.at_valid
        truth = torch32 if torch64 is None else torch64
        return Usual(error=max(self.error, own_error(values)), scale=max(self.scale, _scale(truth)))

    def judged(self, values: Values) -> Usual:
        """The same with the candidate's error against PyTorch fp32 in place of PyTorch's own."""
        mine, torch32, _ = values.at_valid
        finite = np.isfinite(mine) & np.isfinite(torch32)
        with np.errstate(invalid="ignore"):
            error = float(np.max(np.abs(mine - torch32), where=finite, initial=0.0))
        return Usual(error=max(self.error, error), scale=max(self.scale, _scale(torch32)))


def own_error(values: Values) -> float:
    """PyTorch's own fp32 error, the largest one in the output's unit. 0 where there is no oracle."""
    _, torch32, torch64 = values.at_valid
    if torch64 is None:
        return 0.0
    # Where PyTorch itself overflows it says nothing of its error elsewhere.
    finite = np.isfinite(torch32) & np.isfinite(torch64)
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(torch32 - torch64), where=finite, initial=0.0))


def parity(values: Values, rule: AnyRule, usual: Usual) -> list[Finding]:
    """How far the candidate is off, and how many of its values are not finite where PyTorch's are.

    Values that are not finite equal nothing, not even each other.
    """
    name, case = values.output, values.case
    if values.candidate.shape != values.reference.shape:
        shapes = f"{case}: shape {values.candidate.shape}, PyTorch {values.reference.shape}"
        return [Finding(check=f"parity.{name}", value=float("inf"), limit=1.0, where=shapes)]
    mine, torch32, torch64 = values.at_valid
    with np.errstate(invalid="ignore"):
        errors = np.abs(mine - (torch32 if torch64 is None or rule.absolute else torch64))
        limits = rule.allowed(values, usual)
        used = np.where(np.isnan(errors), np.inf, errors / limits)
    flat = int(np.argmax(used))
    at = np.unravel_index(flat, errors.shape)
    bad = ~np.isfinite(mine) & np.isfinite(torch32)
    where = f"{case}, {element(values, at)}: onnx {mine[at]:.6g}, torch {torch32[at]:.6g}"
    error = float("inf") if np.isnan(errors[at]) else float(errors[at])
    return [
        Finding(check=f"parity.{name}", value=error, limit=float(limits[at]), where=where),
        Finding(check=f"finite.{name}", value=float(bad.sum()), limit=0.0, where=where),
    ]


def element(values: Values, at: tuple[Any, ...]) -> str:
    """The index in the output, `[row, position, …]`, of index `at` among its valid positions."""
    first = np.argwhere(values.valid)[int(at[0])].tolist()
    return str([*first, *(int(axis) for axis in at[1:])])


def _scale(truth: Array) -> float:
    largest = float(np.max(np.abs(truth), where=np.isfinite(truth), initial=0.0))
    return max(largest, float(np.finfo(np.float32).tiny))


def worst_of(findings: Iterable[Finding], compared: str = "{count} batches") -> list[Check]:
    """A check for every name among `findings`, in the order of their first, each with its worst case."""
    by_name: dict[str, list[Finding]] = {}
    for finding in findings:
        by_name.setdefault(finding.check, []).append(finding)
    checks = []
    for name, found in by_name.items():
        worst = max(found, key=lambda finding: finding.badness)
        checks.append(
            Check(
                name=name,
                passed=worst.badness <= 1,
                compared=compared.format(count=len(found)),
                worst=worst.value,
                limit=worst.limit,
                where=worst.where,
            )
        )
    return checks
