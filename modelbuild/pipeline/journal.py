"""What happened in a build's folder, one JSON object per line: stages that started, finished, failed, were restored."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modelbuild.errors import ModelbuildError, Problem, by_code

JOURNAL_FILE = ".journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line. `what` is `started`, `finished`, `failed` or `restored`; `code` and `problems` are an error's."""

    stage: str
    what: str
    pid: int
    time: float
    seconds: float = 0.0
    code: str = ""
    problems: tuple[Problem, ...] = ()

    def error(self) -> ModelbuildError:
        """The error of a failed stage, as it was raised in the stage's process."""
        error = by_code(self.code)("")
        error.problems = self.problems
        return error


def record(folder: Path, stage: str, what: str, *, seconds: float = 0.0, error: ModelbuildError | None = None) -> None:
    """Append an event to the journal of the build in `folder`."""
    event = Event(
        stage=stage,
        what=what,
        pid=os.getpid(),
        time=time.time(),
        seconds=round(seconds, 3),
        code=error.code if error else "",
        problems=error.problems if error else (),
    )
    with (folder / JOURNAL_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(event)) + "\n")


def read_journal(folder: Path) -> list[Event]:
    """The events of the build in `folder`, oldest first. A line that a crash left half-written is passed over."""
    path = folder / JOURNAL_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [event for line in lines if (event := _event(line))]


def _event(line: str) -> Event | None:
    try:
        data = json.loads(line)
        return Event(**data | {"problems": tuple(Problem(**problem) for problem in data["problems"])})
    except (ValueError, TypeError, KeyError):
        return None


def stages_run(events: Sequence[Event]) -> list[str]:
    """The stages that a process was started for, in order."""
    return [event.stage for event in events if event.what == "started"]
