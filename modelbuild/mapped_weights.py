"""Weights that are mapped into memory from their files, and how to give the memory back."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from modelbuild.model_files import PICKLE_SUFFIX, SAFE_SUFFIX

_MAPPINGS = Path("/proc/self/smaps")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(.*?)(?: \(deleted\))?$")


def release() -> int:
    """Give back the memory of weights that were read through a mapping of their file, and the number of its bytes.

    The next look at them reads the file again. A mapping that anything was written into is left alone, for that would
    be lost. Systems that do not tell what is mapped keep theirs.
    """
    if sys.platform != "linux" or not _MAPPINGS.exists():
        return 0
    library = ctypes.CDLL(None, use_errno=True)
    freed = 0
    for start, end in _unwritten():
        if library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED) == 0:
            freed += end - start
    return freed


def _unwritten() -> Iterator[tuple[int, int]]:
    """The addresses at which weight files are mapped, where no page is one of our own."""
    place: tuple[int, int] | None = None
    for line in _MAPPINGS.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := _MAPPING.match(line):
            of_weights = found[3].endswith((SAFE_SUFFIX, PICKLE_SUFFIX))
            place = (int(found[1], 16), int(found[2], 16)) if of_weights else None
        elif place and line.startswith("Anonymous:") and line.split()[1] == "0":
            yield place
