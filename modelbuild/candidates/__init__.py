"""Candidates: ways to optimize a graph, one module each. What they emit is trusted only after it loaded and matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

# From the least to the most that is done to a graph, and the simpler before the other where they are alike.
CANDIDATES: dict[str, str] = {
    "none": "modelbuild.candidates.unchanged",
    "basic": "modelbuild.candidates.ort_level",
    "extended": "modelbuild.candidates.ort_level",
    "transformer": "modelbuild.candidates.transformer",
    "multi_head_attention": "modelbuild.candidates.transformer",
    "ort_transformer": "modelbuild.candidates.transformer",
}


class Candidate(Protocol):
    """What a candidate module has.

    `kind` is the optimization that was asked for, `facts` is what export reported of the graph.
    """

    def fusions(self, kind: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of what `optimize` does that it can also leave out, the likeliest to be wrong first."""
        ...

    def optimize(
        self,
        kind: str,
        source: Path,
        facts: Mapping[str, Any],
        out: Path,
        without: frozenset[str] = frozenset(),
        custom_ops: Sequence[str] = (),
    ) -> None:
        """Read the graph in the file `source` and write one's own to the file `out`, leaving out what `without` names.
        Sessions that are opened on the way have the operators of the libraries `custom_ops`.

        The weights go beside `out`, in `data_file(out.name)`. `source` is not changed. Raises OptimizeError when the
        graph cannot be optimized so.
        """
        ...
