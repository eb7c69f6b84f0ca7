"""What the optimize stage does to one graph: what was asked for, or a search; and then another precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # whoever asks which module it is need not import what that does
    from modelbuild.optimization.job import Job, Made
    from modelbuild.stage_spec import OptimizeSpec

# Who does it: `ASKED` for a kind of optimization that is a candidate. What searches, reduces a precision or measures
# sessions has code and tools of its own, which builds without it do not depend on: it is imported by name.
ASKED = "modelbuild.optimization.asked"
WAYS: dict[str, str] = {"auto": "modelbuild.optimization.search"}
REDUCTION = "modelbuild.optimization.reduction"
SESSIONS = "modelbuild.optimization.sessions"


class Way(Protocol):
    """What `ASKED` and the modules in `WAYS` have."""

    def make(self, job: Job, spec: OptimizeSpec) -> Made:
        """Write the graph of `job` that ships. Raises OptimizeError when there is none that may."""
        ...
