"""Which fusion is to blame for a graph that is wrong: switch all off, then halves, down to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def verdict(fusions: Sequence[str], works: Callable[[frozenset[str]], bool]) -> str:
    """A clause that names the fusion without which `works` is true; empty when there are no fusions.

    `works` builds the graph without the fusions it is given and says whether that one is right. It is called without
    any of them first, and where that is wrong, no more; then it is called about twice for each halving of their number.
    """
    if not fusions:
        return ""
    if not works(frozenset(fusions)):
        return "it is no fusion's fault: without any it does not either"
    suspects = tuple(fusions)
    while len(suspects) > 1:
        middle = len(suspects) // 2
        guilty = next((half for half in (suspects[:middle], suspects[middle:]) if works(frozenset(half))), None)
        if guilty is None:
            return "no fusion alone is to blame; without any it does"
        suspects = guilty
    return f"without {_called(suspects[0])} it does"


def _called(name: str) -> str:
    """`attention fusion`; names of ONNX Runtime's optimizers are their own: `GeluFusionL2`."""
    return name if name != name.lower() else f"{name} fusion"
