from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from modelbuild.errors import PackageError, ValidationError
from modelbuild.report import FORMAT, Check, Report, read_report, require_passed, write_metrics, write_report

GOOD = Check(name="parity.logits", passed=True, compared="18 batches", worst=2.5e-7, limit=1e-6, where="left 2x7 [0]")
NAMES = Check(name="signature", passed=True, compared="3 names")
BAD = Check(name="finite.logits", passed=False, compared="18 batches", worst=3.0, limit=0.0)
FACTS = {"status": "strict", "seed": 0, "sizes": [1, 2], "nested": {"ok": True, "none": None}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_report_survives_json(path: Path) -> None:
    report = Report(stage="validate", checks=(GOOD, NAMES, BAD), facts=FACTS)
    write_report(report, path)
    assert read_report(path) == report


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_has_not_survive_it(number: float, path: Path) -> None:
    check = Check(name="parity", passed=False, compared="1", worst=number, limit=number)
    write_report(Report(stage="validate", checks=(check,), facts={"deep": [{"is": number}]}), path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    (read,) = read_report(path).checks
    assert str(read) == str(check)
    assert read_report(path).facts == {"deep": [{"is": str(number)}]}


def test_a_report_says_that_it_passed_when_every_check_did(path: Path) -> None:
    for checks, passed in (((), True), ((GOOD, NAMES), True), ((GOOD, BAD), False)):
        report = Report(stage="validate", checks=checks)
        assert report.passed is passed
        write_report(report, path)
        assert json.loads(path.read_text())["passed"] is passed


def test_a_report_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        BAD.passed = True  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Report(stage="validate").checks = ()  # type: ignore[misc]


def test_what_is_not_known_is_none() -> None:
    assert (NAMES.worst, NAMES.limit) == (None, None)
    assert Report(stage="export").metrics is None


def test_failures_are_the_checks_that_did_not_pass() -> None:
    assert Report(stage="validate", checks=(GOOD, BAD, NAMES)).failures() == (BAD,)


def test_a_newer_format_is_refused(path: Path) -> None:
    write_report(Report(stage="export"), path)
    edit(path, format=FORMAT + 1)
    with pytest.raises(PackageError, match=r"format 2 is newer than 1: report\.json"):
        read_report(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"format": "1"}',
        b'{"format": 1, "stage": "x", "passed": true, "facts": {}, "checks": []}',
        b'{"format": 1, "stage": "x", "passed": true, "facts": {}, "checks": {"a": {"passed": true}}}',
        b'{"format": 1, "stage": "x", "passed": true, "facts": {}, "checks": {"a": "b"}}',
    ],
)
def test_something_else_is_not_a_report(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"not a report: .*: report\.json: build it again$"):
        read_report(path)


def test_a_missing_report_is_a_package_error(path: Path) -> None:
    with pytest.raises(PackageError, match=r"not a report.*report\.json"):
        read_report(path)


def test_a_report_whose_verdict_does_not_follow_from_its_checks_is_refused(path: Path) -> None:
    write_report(Report(stage="validate", checks=(GOOD, BAD)), path)
    edit(path, checks={})
    with pytest.raises(PackageError, match="verdict"):
        read_report(path)


def test_a_failed_check_is_not_hidden_by_a_later_one_of_the_same_name(path: Path) -> None:
    twin = Check(name=BAD.name, passed=True, compared="1")
    write_report(Report(stage="validate", checks=(BAD, twin)), path)
    with pytest.raises((PackageError, ValidationError)):
        require_passed(read_report(path))


def test_the_gate_lets_through_what_passed_and_what_was_off() -> None:
    require_passed(Report(stage="validate", checks=(GOOD, NAMES)))
    require_passed(Report(stage="validate"))


def test_the_gate_names_the_first_failure_and_counts_the_others() -> None:
    other = Check(name="opset", passed=False, compared="1", where="graph: 17, asked: 18")
    with pytest.raises(ValidationError, match=r"failed: finite\.logits: 3 \(limit 0\): validate/.*: nothing was pack"):
        require_passed(Report(stage="validate", checks=(GOOD, BAD)))
    with pytest.raises(ValidationError, match=r"failed: opset at graph: 17, asked: 18 \(and 1 more\)"):
        require_passed(Report(stage="validate", checks=(GOOD, other, BAD)))


def test_a_check_in_one_line_has_its_numbers_and_its_place() -> None:
    assert GOOD.line() == "parity.logits: 2.5e-07 (limit 1e-06) at left 2x7 [0]"
    assert NAMES.line() == "signature"
    assert Check(name="tokenizer size", passed=True, compared="ids", worst=3.0).line() == "tokenizer size"
    assert Check(name="tokenizer size", passed=True, compared="ids", limit=3.0).line() == "tokenizer size"


def test_metrics_are_written_alone(path: Path) -> None:
    write_metrics(Report(stage="validate", checks=(GOOD,), metrics={"a": {"b": 1.5, "c": math.inf}}), path)
    assert json.loads(path.read_text()) == {"a": {"b": 1.5, "c": "inf"}}
