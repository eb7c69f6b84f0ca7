"""What a stage, and the process that imports for it, say to each other: see `warm`.

A request is its length, the output of who asks as open files, and JSON; the answer a byte once the stage has begun, and
its exit code when it has ended.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

TAKEN = b"t"
LENGTH_BYTES, STATUS_BYTES = 4, 2
KILLED = 128


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a stage imports (`a.module`, or `a.module:function`, which is called), in order; and whether it measures, so
    that nothing is imported beside it.
    """

    modules: Sequence[str]
    measures: bool = False


def received(connection: socket.socket, length: int) -> bytes:
    """So many bytes, or none where the other side is gone."""
    found = b""
    while len(found) < length:
        part = connection.recv(length - len(found))
        if not part:
            return b""
        found += part
    return found
