"""Locks between processes, which a child can hold on to after its parent is gone.

They are `flock`s on files. A lock object of a library closes its file when its process ends; here the open file is
handed to the worker, so that the lock lives as long as the work does.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold(path: Path, on_wait: Callable[[str], None] | None = None, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock `path`, and give its file descriptor, which may be passed to a child.

    Many may hold it `shared` at once, or one alone. When another process has it, `on_wait` is called once with who that
    is, and then this one waits. A file that another user made, and this one may only read, serves as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, writable = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), True
    except PermissionError as error:
        if not path.exists():
            raise
        handle, writable = _readable(path, error), False
    try:
        _acquire(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, on_wait)
        if writable and not shared:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _readable(path: Path, error: PermissionError) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise error from None


def _acquire(handle: int, mode: int, on_wait: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        if on_wait:
            on_wait(os.pread(handle, 100, 0).decode(errors="replace") or "another process")
        fcntl.flock(handle, mode)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock `path` now."""
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    finally:
        os.close(handle)
    return False
