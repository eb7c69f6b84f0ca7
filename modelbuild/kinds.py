"""Values that come from outside, of the kinds that a dataclass says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

# What JSON has for the annotations of fields that are not decoded further.
_KINDS: dict[str, type] = {"str": str, "bool": bool, "int": int, "Mapping": dict}


def require_kinds(of: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError for the first of `values` that is of another kind than the field of the dataclass `of` says:
    a text, a number, true or false, a mapping, or one of whole numbers.
    """
    for field in fields(of):
        kind, _, inside = str(field.type).partition("[")
        if field.name not in values or kind not in _KINDS:
            continue
        value = values[field.name]
        wrong = type(value) is not _KINDS[kind]
        if not wrong and inside.endswith("int]"):
            wrong = not all(type(number) is int for number in value.values())
        if wrong:
            raise TypeError(f"its {field.name} is {value!r}")
