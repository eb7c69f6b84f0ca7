"""Did you mean …?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `word`, or None."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the sorted choices when none is near and they are few, or nothing."""
    choices = sorted(known)
    near = closest(word, choices)
    if near:
        return f"did you mean '{near}'?"
    return f"choose one of {', '.join(choices)}" if 0 < len(choices) <= 12 else ""
