"""The journal of a build."""

from __future__ import annotations

from pathlib import Path

from modelbuild.errors import ConfigError, ExportError, Problem
from modelbuild.pipeline.journal import JOURNAL_FILE, read_journal, record, stages_run


def test_events_come_back_in_order(tmp_path: Path) -> None:
    for what in ("started", "finished"):
        record(tmp_path, "export", what, seconds=1.5)
    record(tmp_path, "sidecar", "restored")
    events = read_journal(tmp_path)
    assert [(event.stage, event.what) for event in events] == [
        ("export", "started"),
        ("export", "finished"),
        ("sidecar", "restored"),
    ]
    assert stages_run(events) == ["export"]


def test_an_error_crosses_processes_with_all_its_problems(tmp_path: Path) -> None:
    record(tmp_path, "export", "failed", error=ExportError("no weights", where="/m", hint="fetch them"))
    record(tmp_path, "build", "failed", error=ConfigError.collected([Problem("a"), Problem("b", "c")]))
    first, second = (event.error() for event in read_journal(tmp_path))
    assert isinstance(first, ExportError)
    assert first.lines() == ["error[EXP]: no weights: /m: fetch them"]
    assert second.lines() == ["error[CFG]: a", "error[CFG]: b: c"]


def test_a_line_that_a_crash_left_half_written_is_passed_over(tmp_path: Path) -> None:
    record(tmp_path, "export", "started")
    with (tmp_path / JOURNAL_FILE).open("a", encoding="utf-8") as stream:
        stream.write('{"stage": "export", "wh')
    assert len(read_journal(tmp_path)) == 1


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert read_journal(tmp_path) == []
