"""Overrides are checked, and made into what Hydra takes, before Hydra sees them: all problems at once, with
suggestions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from modelbuild.config.location import groups
from modelbuild.config.schema import FREE, known_keys
from modelbuild.errors import ConfigError, Problem
from modelbuild.registry.registration import KEYS as REGISTER_KEYS
from modelbuild.suggest import did_you_mean

TOP_KEYS = ("out", "debug", "register")
_TOP_NAMES = ("out", "debug", *(f"register.{key}" for key in REGISTER_KEYS))
_PLAIN_WORD = re.compile(r"[A-Za-z_][\w.-]*")


def prepare(overrides: Sequence[str], workspace: Path) -> list[str]:
    """`overrides` as `examine` makes them. Raises ConfigError with all problems where there are any."""
    prepared, problems = examine(overrides, workspace)
    if problems:
        raise ConfigError.collected(problems)
    return prepared


def examine(overrides: Sequence[str], workspace: Path) -> tuple[list[str], list[Problem]]:
    """`overrides` as Hydra takes them: choices that look like numbers quoted, known keys settable wherever they are.

    Those that are no override, or name a group, choice or key that does not exist, are left out, with a problem each.
    """
    known, choices = set(known_keys()), groups(workspace)
    prepared, problems = [], []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            problems.append(Problem("not an override", f"'{text}'", _syntax_hint(text, error)))
            continue
        found = _check(override, known, choices)
        problems += found
        if not found:
            prepared.append(_rewritten(text, override, choices))
    return prepared, problems


def _syntax_hint(text: str, error: HydraException) -> str:
    if "=" not in text:
        return "write key=value"
    key, _, value = text.partition("=")
    return (
        f"quote the value: '{key}=\"{value}\"'" if '"' not in value and "'" not in value else str(error).splitlines()[0]
    )


def _check(override: Override, known: set[str], choices: dict[str, list[str]]) -> list[Problem]:
    key = override.key_or_group
    if key.startswith("hydra") or "/" in key or override.package is not None or override.is_delete():
        return []
    if key in choices:
        return [
            Problem(f"there is no {key}={choice}", "overrides", did_you_mean(choice, choices[key]))
            for choice in _chosen(override, choices[key]) or [override.get_value_string()]
            if choice not in choices[key]
        ]
    if key in _TOP_NAMES or key in known or _is_free(key, known):
        return []
    candidates = [*choices, *_TOP_NAMES, *(name for name in known if not name.endswith(FREE))]
    hint = did_you_mean(key, candidates) or did_you_mean(key.rpartition(".")[2], list(choices))
    return [Problem(f"there is no key '{key}'", "overrides", hint)]


def _is_free(key: str, known: set[str]) -> bool:
    parts = key.split(".")
    return any(".".join([*parts[:cut], FREE]) in known for cut in range(1, len(parts)))


def _chosen(override: Override, known: list[str]) -> list[str]:
    """The choices that an override of a group names; each of them, where it is a sweep."""
    value = override._value  # noqa: SLF001 - value() refuses a sweep
    if isinstance(value, Glob):
        return value.filter(known)
    if override.is_interval_sweep():
        return [override.get_value_string()]
    items = override.sweep_iterator() if override.is_sweep_override() else value if isinstance(value, list) else [value]
    return ["null" if item is None else str(getattr(item, "text", item)) for item in items]


def _rewritten(text: str, override: Override, choices: dict[str, list[str]]) -> str:
    key = override.key_or_group
    if key in choices and not override.is_delete() and not isinstance(override._value, list):  # noqa: SLF001
        return f"{override.get_key_element()}={','.join(map(_quoted, _chosen(override, choices[key])))}"
    settable = "." in key and not key.startswith("hydra")
    return f"++{text}" if settable and text[0] not in "+~" else text


def _quoted(choice: str) -> str:
    """A choice as Hydra takes it for a string: it refuses a number, whatever the name of the file is."""
    return choice if _PLAIN_WORD.fullmatch(choice) else "'{}'".format(choice.replace("'", "\\'"))
