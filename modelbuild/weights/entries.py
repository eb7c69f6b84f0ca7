"""What the account of the weights says of each tensor. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from modelbuild.weights.tensors import Original

Relation = Literal[
    "equal", "transposed", "reshaped", "reordered", "packed", "sliced", "folded", "scaled", "rounded",
    "quantized", "changed", "unaccounted",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a graph: what it is made of and how. `faulty` counts elements that are not the original's, and
    `where` names the first, with both values.
    """

    name: str
    shape: tuple[int, ...]
    relation: Relation
    originals: tuple[str, ...] = ()
    faulty: int = 0
    where: str = ""

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Account:
    """Every tensor of a graph, and the originals that none of them comes from.

    A tied original is listed by all its names, of which the first stands for it in `entries`.
    """

    entries: tuple[Entry, ...]
    absent: tuple[Original, ...]

    def unaccounted(self) -> tuple[Entry, ...]:
        """The tensors that come from no original."""
        return tuple(entry for entry in self.entries if entry.relation == "unaccounted")
