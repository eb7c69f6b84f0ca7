"""Which fusion is to blame for a graph that is wrong: switch them off, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def verdict(fusions: Sequence[str], works: Callable[[frozenset[str]], bool]) -> str:
    """A clause that names the fusion without which `works` is true; empty when there are no fusions.

    `works` builds the graph without the fusions it is given and says whether that one is right. Where none alone is to
    blame, it is called without any of them.
    """
    if not fusions:
        return ""
    for name in fusions:
        if works(frozenset({name})):
            return f"without {_called(name)} it does"
    if works(frozenset(fusions)):
        return "no fusion alone is to blame; without any it does"
    return "it is no fusion's fault: without any it does not either"


def _called(name: str) -> str:
    """`attention fusion`; names of ONNX Runtime's optimizers are their own: `GeluFusionL2`."""
    return name if name != name.lower() else f"{name} fusion"
