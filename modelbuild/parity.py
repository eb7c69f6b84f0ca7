"""How far a candidate may be from PyTorch: errors against an fp64 oracle, at valid positions. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.report import Check

Array = npt.NDArray[Any]


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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One output in one case. `error` and `limit` are absolute, in the output's unit; `where` names the worst
    element.
    """

    output: str
    error: float
    limit: float
    bad_values: int
    where: str

    @property
    def badness(self) -> float:
        """How much of the limit is used: above 1 fails, and values that are not finite are infinitely bad."""
        used = self.error / self.limit
        return float("inf") if self.bad_values or np.isnan(used) else used


def compare(
    output: str,
    case: str,
    *,
    candidate: Array,
    reference: Array,
    oracle: Array,
    valid: npt.NDArray[np.bool_],
    rule: Rule,
) -> Comparison:
    """Compare `candidate` with `reference` (fp32) and `oracle` (fp64), all `(batch, …)`, where `valid` says so.

    `valid` is `(batch, sequence)` for outputs with a sequence axis, and `(batch,)` for others. Values that are not
    finite equal nothing, not even each other.
    """
    if candidate.shape != reference.shape:
        shapes = f"{case}: shape {candidate.shape}, PyTorch {reference.shape}"
        return Comparison(output=output, error=float("inf"), limit=1.0, bad_values=0, where=shapes)
    index = np.argwhere(valid)
    mine, torch32, torch64 = (array[valid].astype(np.float64) for array in (candidate, reference, oracle))
    bad = int(np.sum(~np.isfinite(mine) & np.isfinite(torch32)))
    absolute = rule.rtol is not None or rule.atol is not None
    with np.errstate(invalid="ignore"):
        errors = np.abs(mine - (torch32 if absolute else torch64))
        limits = _limits(torch32, torch64, rule, absolute)
        used = errors / limits
    flat = int(np.argmax(np.where(np.isnan(used), np.inf, used)))
    at = np.unravel_index(flat, errors.shape)
    element = (*index[at[0]].tolist(), *(int(axis) for axis in at[1:]))
    return Comparison(
        output=output,
        error=float(errors[at]),
        limit=float(limits[at]),
        bad_values=bad,
        where=f"{case} {list(element)}: onnx {mine[at]:.6g}, torch {torch32[at]:.6g}",
    )


def _limits(torch32: Array, torch64: Array, rule: Rule, absolute: bool) -> Array:
    if absolute:
        return np.asarray((rule.atol or 0.0) + (rule.rtol or 0.0) * np.abs(torch32) + np.finfo(np.float64).tiny)
    # Where PyTorch itself overflows it says nothing of its error elsewhere.
    finite = np.isfinite(torch32) & np.isfinite(torch64)
    scale = max(float(np.max(np.abs(torch64), where=finite, initial=0.0)), float(np.finfo(np.float32).tiny))
    own_error = float(np.max(np.abs(torch32 - torch64), where=finite, initial=0.0))
    return np.full(torch32.shape, rule.oracle_factor * own_error + rule.floor * scale)


def parity_checks(comparisons: Iterable[Comparison]) -> list[Check]:
    """For every output, one check of its worst case, and one that counts values that are not finite where PyTorch's
    are.
    """
    by_output: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_output.setdefault(comparison.output, []).append(comparison)
    checks = []
    for output, cases in by_output.items():
        worst = max(cases, key=lambda case: case.badness)
        bad = sum(case.bad_values for case in cases)
        count = f"{len(cases)} batches"
        checks.append(
            Check(
                name=f"parity.{output}",
                passed=worst.badness <= 1,
                compared=count,
                worst=worst.error,
                limit=worst.limit,
                where=worst.where,
            )
        )
        checks.append(Check(name=f"finite.{output}", passed=bad == 0, compared=count, worst=float(bad), limit=0.0))
    return checks
