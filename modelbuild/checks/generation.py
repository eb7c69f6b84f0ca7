"""generation_config.json: by what a text ends, begins and is padded, and that the cache is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild.checks.sidecar import check, has_sidecar, read_object, show, vocabulary
from modelbuild.checks.subject import Subject
from modelbuild.config_fields import GENERATION
from modelbuild.decoding import DECODERS
from modelbuild.errors import ExportError
from modelbuild.generation import made_generation_config, require_generation_config
from modelbuild.model_files import CONFIG_FILE, GENERATION_CONFIG
from modelbuild.reference import parse_config
from modelbuild.report import Check

# Settings that are ids of tokens: one, a list of them, or an object of them by what they stand for.
_IDS = ("_token_id", "_to_id", "suppress_tokens")
# Set by us, or of the library that wrote the file.
_OURS = frozenset({"use_cache", "transformers_version", "_from_model_config"})


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with generation_config.json; nothing for a model that makes nothing step by step."""
    if subject.task.family not in DECODERS or not has_sidecar(subject):
        return
    settings, fault = read_object(subject.sidecar / GENERATION_CONFIG)
    faults = [fault] if fault else list(_faults(subject, settings))
    yield check(
        "generation config", "settings with the original's and the vocabulary, and the use of the cache", faults
    )
    config, fault = read_object(subject.sidecar / CONFIG_FILE)
    if not fault:
        yield check("config generation", "how a text begins and ends with the original's", _fields(subject, config))


def _fields(subject: Subject, config: Mapping[str, Any]) -> Iterator[str]:
    """The fields of config.json that generation goes by."""
    try:
        shipped = parse_config(config)
    except ExportError as error:
        yield f"{CONFIG_FILE} cannot be read: {error}"
        return
    for name in GENERATION:
        given, theirs = getattr(shipped, name, None), getattr(subject.reference.config, name, None)
        if given != theirs:
            yield f"{CONFIG_FILE} {name}: {show(given)}, the original's is {show(theirs)}"


def _faults(subject: Subject, settings: Mapping[str, Any]) -> Iterator[str]:
    try:
        require_generation_config(settings)
    except ExportError as error:
        yield f"{GENERATION_CONFIG}: {error.problems[0].what}"
        return
    original = _original(subject)
    for name in sorted({*settings, *original} - _OURS):
        given, theirs = settings.get(name), original.get(name)
        if given != theirs:
            yield f"{GENERATION_CONFIG} {name}: {show(given)}, the original's is {show(theirs)}"
        if name.endswith(_IDS):
            yield from _beyond(subject, name, given)
    configured, _ = read_object(subject.sidecar / CONFIG_FILE)
    for file, values in ((GENERATION_CONFIG, settings), (CONFIG_FILE, configured)):
        if values.get("use_cache", True) is not True:
            yield f"{file} use_cache: {show(values['use_cache'])}, the graph has a cache"


def _beyond(subject: Subject, name: str, given: Any) -> Iterator[str]:
    """Ids that the model cannot look up or give. One below 0 is no token: some models have -1 for no padding."""
    size = vocabulary(subject)
    for number in given.values() if isinstance(given, dict) else given if isinstance(given, list) else [given]:
        none = number is None or (number == -1 and name == "pad_token_id")
        if not none and (not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < size):
            yield f"{GENERATION_CONFIG} {name}: {show(number)} is not in the vocabulary of {size}"


def _original(subject: Subject) -> dict[str, Any]:
    """The original's own settings; where it has none, those that transformers makes of its config."""
    if subject.source is not None and (subject.source / GENERATION_CONFIG).is_file():
        return read_object(subject.source / GENERATION_CONFIG)[0]
    return made_generation_config(subject.reference.config)
