"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable

# What people call things that have another name here. Letter by letter, `gpu` is nearest to `cpu`.
_ALSO_CALLED = {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt"}


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `word`, or means the same, or None."""
    import difflib  # only now: whoever makes no mistakes needs it not

    choices = list(known)
    plain = word.lower().removesuffix("executionprovider")
    meant = [name for name in (plain, _ALSO_CALLED.get(plain)) if name in choices and name != word]
    return next(iter(meant or difflib.get_close_matches(word, choices, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the sorted choices when none is near and they are few, or nothing."""
    choices = sorted(known)
    near = closest(word, choices)
    if near:
        return f"did you mean '{near}'?"
    return f"choose one of {', '.join(choices)}" if 0 < len(choices) <= 12 else ""
