"""What a stage reports: checks that passed or failed, and facts. Plain JSON with a format version."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from modelbuild.errors import PackageError, Problem, ValidationError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked.

    `compared` says how many cases there were and of what kind; `worst` is the largest value found, in the unit of
    `limit`; `where` is the case it was found in. A check without numbers leaves `worst` and `limit` None.
    """

    name: str
    passed: bool
    compared: str
    worst: float | None = None
    limit: float | None = None
    where: str = ""

    def line(self) -> str:
        """The check in one line, for people."""
        known = self.worst is not None and self.limit is not None
        numbers = f": {number_text(self.worst)} (limit {number_text(self.limit)})" if known else ""
        return f"{self.name}{numbers}{f' at {self.where}' if self.where else ''}"


def named_after(component: str, checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks of one graph among several: its name goes before theirs. Nothing changes for an empty name."""
    return tuple(replace(check, name=f"{component} {check.name}") if component else check for check in checks)


def number_text(value: float | None) -> str:
    """A value of a check for people: counts as they are, others with three digits; nothing for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a stage found: its checks, facts that later stages or people want to read, and metrics: numbers to track.

    `metrics` is None for a stage that has none; nested mappings of numbers otherwise, for `dvc metrics`.
    """

    stage: str
    checks: tuple[Check, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """Whether every check passed. A report without checks passed nothing, and failed nothing: True."""
        return all(check.passed for check in self.checks)

    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def write_report(report: Report, path: Path) -> None:
    """Write `report` to `path` as JSON. NaN and infinite numbers, which JSON has not, are written as text."""
    data = {
        "format": FORMAT,
        "stage": report.stage,
        "passed": report.passed,
        "checks": {
            check.name: {key: value for key, value in asdict(check).items() if key != "name"} for check in report.checks
        },
        "facts": dict(report.facts),
    }
    path.write_text(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_metrics(report: Report, path: Path) -> None:
    """Write the metrics of `report`, alone, to `path` as JSON."""
    path.write_text(json.dumps(_finite(report.metrics), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """The report at `path`. Raises PackageError when it is not one, or of a newer format."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] > FORMAT:
            newer = f"report format {data['format']} is newer than {FORMAT}"
            raise PackageError(newer, where=path.name, hint="upgrade modelbuild")
        checks = tuple(Check(name=name, **_numbers(check)) for name, check in data["checks"].items())
        report = Report(stage=data["stage"], checks=checks, facts=data["facts"])
        if report.passed is not data["passed"]:
            raise ValueError("its verdict does not follow from its checks")
        return report
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"not a report: {error}", where=path.name, hint="build it again") from error


def require_passed(validation: Report) -> None:
    """The gate. Raises ValidationError when `validation` ran and did not pass: the first failure, and the diagnosis."""
    failures = validation.failures()
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        error = ValidationError(
            f"validation failed: {failures[0].line()}{more}",
            where="validate/validation.json",
            hint="nothing was packaged",
        )
        error.problems += tuple(Problem(line) for line in validation.facts.get("diagnosis", {}).values())
        raise error


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _numbers(check: dict[str, Any]) -> dict[str, Any]:
    return check | {key: float(check[key]) for key in ("worst", "limit") if check[key] is not None}
