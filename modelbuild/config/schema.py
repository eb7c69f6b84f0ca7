"""The keys of a build and what is wrong with a composed configuration: dotted paths and suggestions."""

from __future__ import annotations

import json
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from modelbuild.errors import ConfigError, Problem
from modelbuild.exporter_spec import FileExporter
from modelbuild.model_spec import ModuleSource, PathSource
from modelbuild.spec import BuildSpec
from modelbuild.suggest import did_you_mean

FREE = "*"
_TAGGED_UNIONS = frozenset({"source", "exporter", "precision"})


def known_keys(model: type[BaseModel] = BuildSpec, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a build; `model.source.config.*` where any key may follow."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for kind in _members(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{prefix}{name}.")
            elif typing.get_origin(kind) is dict:
                yield f"{prefix}{name}.{FREE}"


def _members(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def decode(values: Mapping[str, Any], base: Path) -> BuildSpec:
    """The build in a composed configuration; a relative `model.source.path`, `model.source.weights`, `exporter.path` or
    path in `session.custom_ops` is taken from the folder `base`.

    Raises ConfigError with every problem: unknown keys, wrong types and values, combinations that cannot be.
    """
    try:
        spec = BuildSpec.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        items = error.errors()
        # A sequence whose items are refused is also "too short": that is the same problem twice.
        inside = {item["loc"][:-1] for item in items}
        counted = [item for item in items if not (item["type"] == "too_short" and item["loc"] in inside)]
        raise ConfigError.collected([problem for item in counted for problem in _problems(item, values)]) from error
    source = spec.model.source
    if isinstance(source, PathSource | ModuleSource):
        given = {name: getattr(source, name, None) for name in ("path", "weights")}
        absolute = {name: str((base / path).resolve()) for name, path in given.items() if path}
        found = source.model_copy(update=absolute)
        spec = spec.model_copy(update={"model": spec.model.model_copy(update={"source": found})})
    if isinstance(spec.exporter, FileExporter):  # a link stays one: the data files are beside it, as in the hub's cache
        file = os.path.abspath(base / spec.exporter.path)  # noqa: PTH100
        spec = spec.model_copy(update={"exporter": spec.exporter.model_copy(update={"path": file})})
    # As with the file, a link stays one: the loader looks beside it for what the library needs.
    libraries = tuple(os.path.abspath(base / path) for path in spec.session.custom_ops)  # noqa: PTH100
    return spec.model_copy(update={"session": spec.session.model_copy(update={"custom_ops": libraries})})


def _problems(item: Any, values: Mapping[str, Any]) -> list[Problem]:
    """One pydantic error as problems: `what: dotted.key: hint`."""
    path = _without_tags(item["loc"], values)
    dotted = ".".join(map(str, path))
    match item["type"]:
        case "extra_forbidden":
            hint = _owner(item["loc"], dotted) or did_you_mean(str(path[-1]), _siblings(item["loc"]))
            return [Problem("unknown key", dotted, hint)]
        case "union_tag_not_found":
            return [Problem("required, and not given", f"{dotted}.kind", f"set {dotted}.kind=…")]
        case "missing" if path[0] == "precision":
            kind = values["precision"]["kind"]
            return [Problem("required, and not given", dotted, f"choose precision={kind}, which has it")]
        case "missing":
            return [Problem("required, and not given", dotted, f"set {dotted}=…")]
        case "literal_error" | "union_tag_invalid":
            context = item["ctx"]
            expected = context.get("expected") or context["expected_tags"]
            choices = ["".join(found) for found in re.findall(r"'([^']*)'|(\d+)", expected)] or [expected]
            wrong = context.get("tag", item["input"])
            return [
                Problem(
                    f"'{wrong}' is not possible",
                    dotted,
                    did_you_mean(str(wrong), choices) or f"choose {expected}",
                )
            ]
        case "value_error":
            return [Problem(line, dotted) for line in str(item["ctx"]["error"]).splitlines()]
        case kind:
            message = item["msg"][0].lower() + item["msg"][1:]
            scalar = kind == "string_type" and not isinstance(item["input"], dict | list)
            hint = f"quote it: {dotted}=\"'…'\" on the command line, '…' in YAML" if scalar else ""
            hint = f"write a list: {dotted}=[…]" if kind == "tuple_type" else hint
            return [Problem(f"{message}, got {json.dumps(item['input'], default=str)[:80]}", dotted, hint)]


def _siblings(path: tuple[int | str, ...]) -> list[str]:
    """The keys that exist where the last one of `path` was given; in a tagged union, those of the variant it names."""
    return [name for model in _models(path[:-1]) for name in model.model_fields]


def _owner(path: tuple[int | str, ...], dotted: str) -> str:
    """Which other variant of a tagged union has the last key of `path`, as a hint; nothing where none has."""
    variants = [model for model in _models(path[:-2]) if "kind" in model.model_fields]
    kinds = ["|".join(typing.get_args(model.model_fields["kind"].annotation)) for model in variants]
    having = [kind for kind, model in zip(kinds, variants, strict=True) if path[-1] in model.model_fields]
    union = dotted.rpartition(".")[0]
    return f"it belongs to {union}={'|'.join(having)}" if len(variants) > 1 and having else ""


def _models(path: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """What `path` leads to in a build; all variants of a tagged union, unless it goes on to name one."""
    models: list[type[BaseModel]] = [BuildSpec]
    by_name: list[type[BaseModel]] = []
    for part in path:
        if by_name:  # the part is a name that is free, of one of several such models
            models, by_name = by_name, []
        elif len(models) > 1:
            models = [model for model in models if part in typing.get_args(model.model_fields["kind"].annotation)]
        else:
            field = models[0].model_fields.get(str(part)) if models else None
            members = list(_members(field.annotation)) if field else []
            named = [typing.get_args(kind)[1] for kind in members if typing.get_origin(kind) is dict]
            models, by_name = _classes(members), _classes(named)
    return models


def _classes(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    return [kind for kind in annotations if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _without_tags(path: tuple[int | str, ...], values: Any) -> list[int | str]:
    """The path as the user wrote it: inside a tagged union pydantic also names the tag, which is no key."""
    kept: list[int | str] = []
    after_union = False
    for part in path:
        if not (after_union and isinstance(values, Mapping) and values.get("kind") == part):
            kept.append(part)
            values = values.get(part) if isinstance(values, Mapping) else None
        after_union = part in _TAGGED_UNIONS and not after_union
    return kept
