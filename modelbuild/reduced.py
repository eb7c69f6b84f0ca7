"""How far a graph in reduced precision may be from PyTorch: not much farther than where its accuracy is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from modelbuild.parity import Usual, Values

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """When an output of a graph in reduced precision agrees, on anything that it is tried with.

    Its largest error against PyTorch fp32 is at most `factor` times the largest that it has on what its accuracy is
    judged by, real text mostly: what quantization costs is known from there, and a wrong mask or a table that was
    changed costs more. What is run again comes out the same, but for `floor` times the largest value; rows beside
    others, which share the ranges of their activations, may be off as from the truth.
    """

    min_cosine: float
    min_top_1: float
    floor: float
    factor: float = 3.0
    usual_is: ClassVar[str] = "own_error_on_what_is_judged"

    @property
    def absolute(self) -> bool:
        """Always: against its own errors, PyTorch's are nothing."""
        return True

    @property
    def slack(self) -> float:
        """Twice the length of what turns a vector by `min_cosine`."""
        return 2 * float(np.sqrt(2 * (1 - self.min_cosine)))

    def seen(self, usual: Usual, values: Values) -> Usual:
        """The same: it is known before anything is tried."""
        return usual

    def allowed(self, values: Values, usual: Usual) -> Array:
        """The same error for each value."""
        error = self.factor * usual.error + self.floor * usual.scale + np.finfo(np.float64).tiny
        return np.broadcast_to(error, values.at_valid[1].shape)

    def between(self, values: Values, usual: Usual, *, again: bool) -> float:
        """What either may be off from the truth; next to nothing where nothing changed."""
        return self.floor * usual.scale if again else float(np.max(self.allowed(values, usual)))

    def tie(self, limit: float) -> float:
        """None are: the share that may differ has room for them."""
        return -1.0

    def other_tokens(self, count: int) -> int:
        """As many as `min_top_1` leaves."""
        return int((1 - self.min_top_1) * count + 1e-9)
