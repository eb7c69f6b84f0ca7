"""config.json of a user's own module, against the module and its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild.checks.sidecar import check, has_sidecar, read_object, show
from modelbuild.checks.subject import Subject
from modelbuild.model_files import CONFIG_FILE
from modelbuild.module_config import dimensions_of
from modelbuild.module_loading import UserModule
from modelbuild.report import Check


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with it; nothing for models of transformers, and where none was asked for."""
    if not has_sidecar(subject) or not isinstance(subject.reference, UserModule):
        return
    config, fault = read_object(subject.sidecar / CONFIG_FILE)
    yield check("config present", "config.json is a JSON object", [fault] if fault else [])
    if not fault:
        shown = dimensions_of(subject.reference.model, subject.interface)
        yield check("config architecture", "a class and a model type are named", _named(config))
        yield check("config dimensions", "sizes with those that the module shows", _sizes(config, shown))
        yield check("config labels", "labels with the columns of logits", _labels(config, shown.get("num_labels")))


def _named(config: Mapping[str, Any]) -> Iterator[str]:
    named, model_type = config.get("architectures"), config.get("model_type")
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        yield f"{CONFIG_FILE} architectures: {show(named)}, no list of class names"
    if not isinstance(model_type, str) or not model_type:
        yield f"{CONFIG_FILE} model_type: {show(model_type)}, no text"


def _sizes(config: Mapping[str, Any], shown: Mapping[str, Any]) -> Iterator[str]:
    for key, value in shown.items():
        if key != "num_labels" and config.get(key) != value:
            given = show(config[key]) if key in config else "missing"
            yield f"{CONFIG_FILE} {key}: {given}, the module's is {value}"


def _labels(config: Mapping[str, Any], columns: int | None) -> Iterator[str]:
    if columns is None:
        return
    if config.get("num_labels") != columns:
        given = show(config["num_labels"]) if "num_labels" in config else "missing"
        yield f"{CONFIG_FILE} num_labels: {given}, logits has {columns} columns"
    labels = config.get("id2label")
    if labels is not None and (not isinstance(labels, dict) or len(labels) != columns):
        yield f"{CONFIG_FILE} id2label: {show(labels)}, logits has {columns} columns"
