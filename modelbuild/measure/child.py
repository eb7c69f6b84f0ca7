"""The process that a side is measured in: `python -m modelbuild.measure.child FD PARENT`, started by `measure` only.

It reads a side from the pipe and answers with the side's facts, then reads questions (functions of `probes`, and their
arguments) and answers each. An error is an answer too, and the last one.
"""

from __future__ import annotations

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from modelbuild.errors import Interrupted, ModelbuildError
from modelbuild.measure.sides import Side
from modelbuild.own_process import die_with_parent


def serve(connection: Connection) -> None:
    """Answer on `connection` until the other end closes it or something fails."""
    name: str
    side: Side
    name, side = connection.recv()
    try:
        loaded = side.load()
        connection.send(loaded.facts)
        while request := _next_request(connection):
            question, arguments, keywords = request
            connection.send(question(loaded, *arguments, **keywords))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other process raises it
        connection.send(_as_answer(name, side, error))


def _next_request(connection: Connection) -> tuple[Any, ...] | None:
    try:
        request: tuple[Any, ...] = connection.recv()
    except EOFError:
        return None
    return request


def _as_answer(name: str, side: Side, error: Exception) -> ModelbuildError:
    foreign = f"{name} failed: {type(error).__name__}: {error}"
    answer = error if isinstance(error, ModelbuildError) else side.error(foreign)
    # A traceback does not cross to another process by itself, and without it --debug would have nothing to show.
    answer.add_note(traceback.format_exc())
    return answer


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group, and the parent ends this process when it does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        die_with_parent(int(sys.argv[2]))
    except Interrupted as gone:
        raise SystemExit(1) from gone
    serve(Connection(int(sys.argv[1])))
