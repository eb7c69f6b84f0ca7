"""What a process that is forked off must not touch: sessions, whose threads are not in it, and locks that were held."""

from __future__ import annotations

import ctypes
import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What is told of forks."""

    def after_fork(self) -> None:
        """Called in the process that was forked off, before anything else happens there."""


_alive: WeakSet[Forked] = WeakSet()


def tell_of_forks(thing: Forked) -> None:
    """Call `thing.after_fork` in every process that is forked off while it is alive."""
    _alive.add(thing)


def keep_for_ever(thing: object) -> None:
    """Never let go of `thing`, not even when the process ends: a session that ends waits for threads that are not
    there.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _tell() -> None:
    for thing in list(_alive):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
