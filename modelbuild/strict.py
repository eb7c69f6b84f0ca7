"""What the types of a specification have in common: nothing unknown, nothing of a wrong type, nothing that changes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digests = dict[str, Sha256]


def _scalar(value: Any) -> Any:
    """Refuse a list or a mapping once, where each member of the union would refuse it again."""
    if isinstance(value, list | dict):
        raise ValueError("a number, a text, true, false or null is wanted")
    return value


Scalar = Annotated[bool | int | float | str | None, BeforeValidator(_scalar)]


class Strict(BaseModel):
    """Unknown keys and wrong types are refused, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
