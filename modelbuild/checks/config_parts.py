"""Sizes in config.json beyond those of one encoder of text: of images, and of the encoders that a model is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild.checks.subject import Subject
from modelbuild.config_fields import Field, dimensions, token_ids
from modelbuild.errors import ExportError
from modelbuild.model_files import CONFIG_FILE
from modelbuild.reference import parse_config

Config = Mapping[str, Any]


def sizes_of_images(subject: Subject, given: Config) -> Iterator[str]:
    """What is wrong with the dimensions `given`, by their general names, beside the images that the graph takes."""
    for tensor in (tensor for tensor in subject.graph.signature.inputs if tensor.name == "pixel_values"):
        for key, wanted in (("num_channels", tensor.shape[1:2]), ("image_size", tensor.shape[2:])):
            size = given.get(key)
            own = tuple(size) if isinstance(size, list) else (size,)
            fixed = all(isinstance(axis, int) for axis in wanted)
            if key in given and fixed and own not in (wanted, wanted[:1] if len(set(wanted)) == 1 else wanted):
                yield f"{CONFIG_FILE} {key}: {json.dumps(size)}, the graph takes {'x'.join(map(str, wanted))}"


def sizes_of_parts(subject: Subject, config: Config) -> Iterator[str]:
    """What is wrong with the configs of the encoders that the model is made of, as transformers reads them."""
    original = subject.reference.config
    parts = [name for name in getattr(original, "sub_configs", {}) if getattr(original, name, None) is not None]
    try:
        parsed = parse_config(dict(config) | {"model_type": original.model_type}) if parts else original
    except ExportError as error:
        yield error.problems[0].what
        return
    for part in parts:
        ours = {field.name: field.value for field in _fields(getattr(parsed, part))}
        for field in _fields(getattr(original, part)):
            if ours.get(field.name) != field.value:
                given, theirs = json.dumps(ours.get(field.name)), json.dumps(field.value)
                yield f"{CONFIG_FILE} {part}.{field.own}: {given}, the original's is {theirs}"


def _fields(config: Any) -> tuple[Field, ...]:
    return (*dimensions(config), *token_ids(config))
