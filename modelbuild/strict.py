"""What the types of a specification have in common: nothing unknown, nothing of a wrong type, nothing that changes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digests = dict[str, Sha256]


class Strict(BaseModel):
    """Unknown keys and wrong types are refused, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def changed(values: Strict) -> set[str]:
    """The names of the fields that are not what they are when nothing is said."""
    return {name for name, item in type(values).model_fields.items() if getattr(values, name) != item.default}
