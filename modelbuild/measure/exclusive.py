"""One at a time on this machine: a lock that the operating system lets go of when its holder dies."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from modelbuild.errors import HostError
from modelbuild.locks import hold


@contextmanager
def exclusive(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `name` of this user on this machine; `say` is told, once, when another process holds it.

    Raises HostError when its file cannot be made. Other users have locks of their own: anyone could write into a
    directory for all of them.
    """
    path = lock_file(name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder of yours"
        raise HostError(f"cannot open the lock: {error}", where=str(path), hint=hint) from error
    with hold(path, on_wait=lambda holder: say(f"waiting for {holder}, which is at a {name} ({path})")):
        yield


def lock_file(name: str) -> Path:
    """The file that is locked for `name`. It says which machine it is for: a home directory may be on many."""
    return Path(platformdirs.user_cache_dir("modelbuild")) / f"{name}-{platform.node()}.lock"
