"""config.json, against the graph, the tokenizer and the original."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelbuild.architectures import is_model_class
from modelbuild.checks.config_parts import sizes_of_images, sizes_of_parts
from modelbuild.checks.subject import Subject
from modelbuild.config_fields import TOKENS, dimensions, token_ids
from modelbuild.errors import ExportError
from modelbuild.golden_text import golden_text
from modelbuild.model_files import CONFIG_FILE
from modelbuild.module_loading import UserModule
from modelbuild.report import Check, read_report
from modelbuild.sizes import longest
from modelbuild.tokenizer import open_tokenizer, tokenizer_size

Config = Mapping[str, Any]
# The field that an output's last axis must agree with. Labels have a check of their own.
_WIDTHS = {
    ("feature-extraction", "last_hidden_state"): "hidden_size",
    ("fill-mask", "logits"): "vocab_size",
    ("text-generation", "logits"): "vocab_size",
    ("image-feature-extraction", "last_hidden_state"): "hidden_size",
    ("zero-shot-image-classification", "image_embeds"): "projection_dim",
    ("text2text-generation", "logits"): "vocab_size",
    ("automatic-speech-recognition", "logits"): "vocab_size",
}
_OWN_HEAD_SIZES = ("head_dim", "d_kv", "attention_head_size")
_SHOWN = 4


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with config.json; nothing where there are no sidecar files because none were asked for, of a user's
    own module, which is another check's, and of a pipeline, which has several configs and no config.json.
    """
    own = isinstance(subject.reference, UserModule) or subject.task.family == "diffusion"
    if own or not has_sidecar(subject):
        return
    config, fault = read_object(subject.sidecar / CONFIG_FILE)
    yield check("config present", "config.json is a JSON object", [fault] if fault else [])
    if fault:
        return
    faults: dict[str, tuple[str, Callable[[Subject, Config], Iterable[str]]]] = {
        "config architecture": ("the class of the original, for the task", _architecture),
        "config model type": ("the original's model type", _model_type),
        "config dimensions": ("sizes and activation with the original's and the graph's", _dimensions),
        "config tokens": ("ids of special tokens with the original's and the tokenizer's", _tokens),
    }
    if subject.task.labels:
        faults["config labels"] = ("labels with the original's and the graph's classes", _labels)
    for name, (compared, find) in faults.items():
        yield check(name, compared, find(subject, config))


def has_sidecar(subject: Subject) -> bool:
    """Whether config and tokenizer were asked for."""
    return bool(read_report(subject.sidecar / "report.json").facts.get("status") != "off")


def has_tokenizer(subject: Subject) -> bool:
    """Whether the package will have a tokenizer, and one that makes inputs that the model can look up."""
    if not read_report(subject.sidecar / "report.json").facts.get("tokenizer"):
        return False
    try:
        golden_text(subject.tokenizer, max_length=longest(subject.interface))
        return tokenizer_size(subject.tokenizer) <= vocabulary(subject)
    except ExportError:
        return False  # the checks of the tokenizer say why


def vocabulary(subject: Subject) -> int:
    """How many tokens the model can look up; 0 for one that takes none."""
    ids = subject.interface.content("token_ids")
    return ids.below if ids else 0


def check(name: str, compared: str, faults: Iterable[str]) -> Check:
    """The Check of that name, which passes when there are no faults and otherwise tells the first of them."""
    found = list(faults)
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return Check(name=name, passed=not found, compared=compared, where="; ".join([*found[:_SHOWN], *more]))


def read_object(path: Path) -> tuple[dict[str, Any], str]:
    """The JSON object in the file `path`, and what is wrong with it, empty if nothing is."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, f"{path.name} is missing"
    except (OSError, ValueError) as error:
        return {}, f"{path.name}: {error}"
    return (value, "") if isinstance(value, dict) else ({}, f"{path.name} is {show(value)}, no object")


def show(value: Any) -> str:
    """A JSON value for people, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, and not a number and a truth value."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _architecture(subject: Subject, config: Config) -> Iterator[str]:
    expected, key = type(subject.reference).__name__, f"{CONFIG_FILE} architectures"
    named = config.get("architectures")
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        given = show(named) if "architectures" in config else "missing"
        yield f"{key}: {given}, the original is a {expected}"
        return
    for name in named:
        if name == expected:
            continue
        if not is_model_class(name):
            yield f"{key}: {name} is no class of transformers, the original is a {expected}"
        elif not name.endswith(subject.task.architecture_suffixes):
            yield f"{key}: {name} is not for {subject.task.name}, the original is a {expected}"
        else:
            yield f"{key}: {name}, the original is a {expected}"


def _model_type(subject: Subject, config: Config) -> Iterator[str]:
    expected = subject.reference.config.model_type
    if config.get("model_type") != expected:
        given = show(config["model_type"]) if "model_type" in config else "missing"
        yield f"{CONFIG_FILE} model_type: {given}, the original's is {show(expected)}"


def _dimensions(subject: Subject, config: Config) -> Iterator[str]:
    given: dict[str, Any] = {}
    for field in dimensions(subject.reference.config):
        found = field.found(config)
        if not found:
            yield f"{CONFIG_FILE} {field.own}: missing, the original's is {show(field.value)}"
        for name, value in found.items():
            given[field.name] = value
            if not same(value, field.value):
                yield f"{CONFIG_FILE} {name}: {show(value)}, the original's is {show(field.value)}"
    for tensor in subject.graph.signature.outputs:
        key = _WIDTHS.get((subject.task.name, tensor.name))
        width = tensor.shape[-1] if tensor.shape else None
        if key in given and isinstance(width, int) and given[key] != width:
            yield f"{CONFIG_FILE} {key}: {show(given[key])}, the graph's {tensor.name} has {width} columns"
    yield from sizes_of_images(subject, given)
    yield from sizes_of_parts(subject, config)
    hidden, heads = given.get("hidden_size"), given.get("num_attention_heads")
    own = any(hasattr(subject.reference.config, name) for name in _OWN_HEAD_SIZES)
    if isinstance(hidden, int) and isinstance(heads, int) and not own and (heads < 1 or hidden % heads):
        yield f"{CONFIG_FILE} hidden_size: {hidden} is not divisible by num_attention_heads {heads}"


def _labels(subject: Subject, config: Config) -> Iterator[str]:
    shapes = [
        tensor.shape for tensor in subject.graph.signature.outputs if tensor.name in subject.interface.output_names()
    ]
    original = {str(index): label for index, label in subject.reference.config.id2label.items()}
    width = shapes[0][-1] if shapes and shapes[0] else None
    classes = width if isinstance(width, int) else len(original)
    for key in ("num_labels", "id2label", "label2id"):
        if key not in config:
            yield f"{CONFIG_FILE} {key}: missing, the graph has {classes} classes"
    if "num_labels" in config and not same(config["num_labels"], classes):
        yield f"{CONFIG_FILE} num_labels: {show(config['num_labels'])}, the graph has {classes} classes"
    labels, inverse = config.get("id2label", {}), config.get("label2id", {})
    for key, value in (("id2label", labels), ("label2id", inverse)):
        if not isinstance(value, dict):
            yield f"{CONFIG_FILE} {key}: {show(value)} is no object"
    if isinstance(labels, dict) and "id2label" in config:
        yield from _labels_in_order(labels, original, classes)
        if isinstance(inverse, dict) and "label2id" in config:
            yield from _inverse(labels, inverse)


def _labels_in_order(labels: Config, original: Config, classes: int) -> Iterator[str]:
    if len(labels) != classes:
        yield f"{CONFIG_FILE} id2label: {len(labels)} labels, the graph has {classes} classes"
    wanted = [str(index) for index in range(classes)]
    for index in wanted:
        if index not in labels:
            yield f"{CONFIG_FILE} id2label: {index} is missing"
        elif not same(labels[index], original.get(index)):
            theirs = show(original.get(index))
            yield f"{CONFIG_FILE} id2label {index}: {show(labels[index])}, the original's is {theirs}"
    for index in sorted(labels.keys() - set(wanted)):
        yield f"{CONFIG_FILE} id2label {show(index)}: no number from 0 to {classes - 1}"


def _inverse(labels: Config, inverse: Config) -> Iterator[str]:
    for index, label in labels.items():
        given = inverse.get(label) if isinstance(label, str) else None
        if str(given) != index:
            yield f"{CONFIG_FILE} label2id {show(label)}: {show(given)}, id2label says {show(index)}"
    for label in sorted(inverse.keys() - {label for label in labels.values() if isinstance(label, str)}):
        yield f"{CONFIG_FILE} label2id {show(label)}: no label of id2label"


def _tokens(subject: Subject, config: Config) -> Iterator[str]:
    expected = {field.name: field.value for field in token_ids(subject.reference.config)}
    for name in (f"{token}_token_id" for token in TOKENS):
        if not same(config.get(name), expected.get(name)):
            given = show(config[name]) if name in config else "missing"
            yield f"{CONFIG_FILE} {name}: {given}, the original's is {show(expected.get(name))}"
    if subject.task.name == "text-classification" and config.get("pad_token_id") is None:
        yield f"{CONFIG_FILE} pad_token_id: missing, and a batch of texts cannot be classified without it"
    shipped = _opened(subject.tokenizer)
    if shipped is not None:
        yield from _tokens_of(subject, config, shipped)


def _tokens_of(subject: Subject, config: Config, shipped: Any) -> Iterator[str]:
    """The config's ids beside the tokenizer's. Where the original's own two disagree in the same way, as some
    multilingual models' do, ours do too, for they are the same model; so with an id of the original's, as -1 for no
    padding, that no vocabulary has.
    """
    original = _opened(subject.original_tokenizer) if subject.original_tokenizer else None
    for name in (f"{token}_token_id" for token in TOKENS):
        given, ours = config.get(name), getattr(shipped, name)
        size = vocabulary(subject)
        ids, declared = _listed(given), getattr(subject.reference.config, name, None)
        own = [number for number in ids if not any(same(number, other) for other in _listed(declared))]
        for number in (number for number in own if number is not None):
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < size:
                yield f"{CONFIG_FILE} {name}: {show(number)} is not in the vocabulary of {size}"
        theirs = (declared, getattr(original, name, None))
        if ours is not None and given is not None and ours not in ids and (given, ours) != theirs:
            token = shipped.convert_ids_to_tokens(ours)
            yield f"{CONFIG_FILE} {name}: {show(given)}, the tokenizer's is {ours} ({token})"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _opened(folder: Path) -> Any:
    try:
        return open_tokenizer(folder)
    except ExportError:
        return None  # which is a check of its own
