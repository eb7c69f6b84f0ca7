"""config.json and the tokenizer, against the graph and the original."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from modelbuild.checks.subject import Subject
from modelbuild.model_files import CONFIG_FILE
from modelbuild.reference import tokenizer_size
from modelbuild.report import Check, read_report


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with the sidecar files; nothing where there are none, because none were asked for."""
    if not (subject.sidecar / CONFIG_FILE).is_file():
        return
    config: dict[str, Any] = json.loads((subject.sidecar / CONFIG_FILE).read_text(encoding="utf-8"))
    architecture = config["architectures"][0]
    yield Check(
        name="config architecture",
        passed=architecture.endswith(subject.task.architecture_suffix),
        compared=f"{architecture} with {subject.task.name}",
    )
    classes = subject.graph.signature.outputs[0].shape[-1]
    if subject.task.labels:
        right = len(config["id2label"]) == classes
        yield Check(
            name="config labels",
            passed=right,
            compared=f"{len(config['id2label'])} labels, {classes} classes in the graph",
        )
    if has_tokenizer(subject):
        size = tokenizer_size(subject.sidecar)
        yield Check(
            name="tokenizer size",
            passed=size <= subject.limits.vocab_size,
            compared="ids with embedding rows",
            worst=size,
            limit=subject.limits.vocab_size,
        )


def has_tokenizer(subject: Subject) -> bool:
    """Whether the package will have a tokenizer."""
    return bool(read_report(subject.sidecar / "report.json").facts.get("tokenizer"))
