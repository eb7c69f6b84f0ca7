"""What the optimize stage does to one graph: what was asked for, or a search; and then another precision."""

from __future__ import annotations

from typing import Protocol

from modelbuild.optimization.job import Job, Made
from modelbuild.stage_spec import OptimizeSpec

# Kind of optimization -> who does it. What searches, reduces a precision or measures sessions has code and tools of its
# own, which builds without it do not depend on: it is imported by name.
WAYS: dict[str, str] = {
    "none": "modelbuild.optimization.asked",
    "basic": "modelbuild.optimization.asked",
    "extended": "modelbuild.optimization.asked",
    "transformer": "modelbuild.optimization.asked",
    "multi_head_attention": "modelbuild.optimization.asked",
    "ort_transformer": "modelbuild.optimization.asked",
    "auto": "modelbuild.optimization.search",
}
REDUCTION = "modelbuild.optimization.reduction"
SESSIONS = "modelbuild.optimization.sessions"


class Way(Protocol):
    """What a module in `WAYS` has."""

    def make(self, job: Job, spec: OptimizeSpec) -> Made:
        """Write the graph of `job` that ships. Raises OptimizeError when there is none that may."""
        ...
