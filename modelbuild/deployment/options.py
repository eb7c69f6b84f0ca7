"""What a user may choose of a target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """`max_batch_size` rows at most may a server put together; without it, it puts none together."""

    max_batch_size: int | None = None
