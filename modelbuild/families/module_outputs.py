"""What a module gives, whatever it gives it in, as tensors by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from modelbuild.component import Tensors
from modelbuild.errors import ExportError

ALONE = "output"


def flattened(result: Any, names: Sequence[str], where: str) -> Tensors:
    """The tensors in `result`: a tensor, or tensors in dicts, tuples, lists, named tuples and dataclasses, nested as
    they may be. A part that is None is left out.

    They are called after their keys and fields, or their place; parts of parts with a dot, `state.0`; or by `names`, in
    order. Raises ExportError when there is anything but tensors, or another number of them.
    """
    found: Tensors = {}
    for name, value in _parts("", result):
        if not isinstance(value, torch.Tensor):
            raise ExportError(
                f"forward gives {_said(value)} for {name or 'its output'}",
                where=where,
                hint="return a tensor, or tensors in a dict, tuple or dataclass",
            )
        if (name or ALONE) in found:
            raise ExportError(
                f"forward gives two tensors that are called {name or ALONE}",
                where=where,
                hint="give one of them another key: parts of parts are called after both, with a dot",
            )
        found[name or ALONE] = value
    if not found:
        raise ExportError("forward gives no tensor", where=where, hint="return one, or some in a dict")
    if names and len(names) != len(found):
        raise ExportError(
            f"model.source.outputs has {len(names)} names, and forward gives {len(found)} tensors",
            where=where,
            hint=f"they are {', '.join(found)}",
        )
    return dict(zip(names, found.values(), strict=True)) if names else found


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    children = _children(value)
    if children is None:
        yield name, value
        return
    for key, child in children:
        if child is not None:
            below = f"{name}.{key}" if name else f"{ALONE}_{key}" if isinstance(key, int) else str(key)
            yield from _parts(below, child)


def _children(value: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        fields = getattr(value, "_fields", None)
        return list(zip(fields or range(len(value)), value, strict=True))
    return None


def _said(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
