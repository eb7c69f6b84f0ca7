"""Defects in what stands beside the graph: config.json and the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from defects.defect import Defect
from defects.models import Build, write_tokenizer


def _config(change: Callable[[dict[str, Any]], None]) -> Callable[[Build], None]:
    return _json("config.json", change)


def _json(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        path = build.folders["sidecar"] / name
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values), encoding="utf-8")

    return plant


def _more_tokens(values: dict[str, Any]) -> None:
    """Added tokens, with ids beyond the last row of the embedding."""
    start = max(values["model"]["vocab"].values()) + 1
    for number in range(start, 320):
        token = {"id": number, "content": f"<extra_{number}>", "special": True}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        values["added_tokens"].append(token | flags)


def _two_labels(values: dict[str, Any]) -> None:
    values["id2label"].pop("2")
    values["label2id"].pop("LABEL_2")


def _permuted(values: dict[str, Any]) -> None:
    """Maps that agree with each other, and not with the classes of the model."""
    values["id2label"] = {"0": "LABEL_1", "1": "LABEL_0", "2": "LABEL_2"}
    values["label2id"] = {"LABEL_1": 0, "LABEL_0": 1, "LABEL_2": 2}


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        del values[key]

    return change


def _another_tokenizer(build: Build) -> None:
    """The tokenizer of a model with the same tokens in another order."""
    words = (build.folders["sidecar"] / "vocab.txt").read_text(encoding="utf-8").splitlines()
    write_tokenizer(build.folders["sidecar"], [*words[:5], *reversed(words[5:])], lower=False)


def _lower_case(build: Build) -> None:
    words = (build.folders["sidecar"] / "vocab.txt").read_text(encoding="utf-8").splitlines()
    write_tokenizer(build.folders["sidecar"], words, lower=True)


def _no_tokenizer(build: Build) -> None:
    for path in [*build.folders["sidecar"].glob("*token*"), build.folders["sidecar"] / "vocab.txt"]:
        path.unlink()


def _swapped_tokens(values: dict[str, Any]) -> None:
    values["cls_token"], values["sep_token"] = values["sep_token"], values["cls_token"]


def _defect(name: str, plant: Callable[[Build], None], check: str, message: str) -> Defect:
    return Defect(
        name=name,
        group="sidecars",
        model="bert-classifier",
        plant=plant,
        check=check,
        message=message,
        optimum="not in the graph",
    )


DEFECTS = (
    _defect(
        "config.json names the architecture of another task",
        _config(lambda values: values.update(architectures=["BertForMaskedLM"])),
        "config architecture",
        r"architectures: BertForMaskedLM is not for text-classification",
    ),
    _defect(
        "config.json names no model type",
        _config(_without("model_type")),
        "config model type",
        r'model_type: missing, the original\'s is "bert"',
    ),
    _defect(
        "config.json names another model type",
        _config(lambda values: values.update(model_type="roberta")),
        "config model type",
        r'model_type: "roberta", the original\'s is "bert"',
    ),
    _defect(
        "config.json has another hidden size",
        _config(lambda values: values.update(hidden_size=64)),
        "config dimensions",
        r"hidden_size: 64, the original's is 32",
    ),
    _defect(
        "config.json has another number of heads",
        _config(lambda values: values.update(num_attention_heads=4)),
        "config dimensions",
        r"num_attention_heads: 4, the original's is 2",
    ),
    _defect(
        "config.json has another vocabulary size",
        _config(lambda values: values.update(vocab_size=30522)),
        "config dimensions",
        r"vocab_size: 30522, the original's is 300",
    ),
    _defect(
        "config.json has another padding token",
        _config(lambda values: values.update(pad_token_id=1)),
        "config tokens",
        r"pad_token_id: 1, the original's is 0",
    ),
    _defect(
        "config.json has two labels for three classes",
        _config(_two_labels),
        "config labels",
        r"2 labels, the graph has 3 classes",
    ),
    _defect(
        "the labels in config.json are permuted",
        _config(_permuted),
        "config labels",
        r'id2label 0: "LABEL_1", the original\'s is "LABEL_0"',
    ),
    _defect(
        "config.json is missing",
        lambda build: (build.folders["sidecar"] / "config.json").unlink(),
        "config present",
        r"config\.json is missing",
    ),
    _defect(
        "the tokenizer has more ids than the embedding has rows",
        _json("tokenizer.json", _more_tokens),
        "tokenizer size",
        r"the tokenizer has 320 ids, the model's embedding has 300 rows",
    ),
    _defect("the tokenizer is missing", _no_tokenizer, "tokenizer present", r"tokenizer\.json is missing"),
    _defect(
        "the tokenizer is another model's",
        _another_tokenizer,
        "tokenizer parity",
        r"text \d+ .*position \d+: .*, the original's is ",
    ),
    _defect(
        "the tokenizer lower-cases, and the original's does not",
        _lower_case,
        "tokenizer parity",
        r"text \d+ .*position \d+: .*, the original's is ",
    ),
    _defect(
        "the tokenizer pads on the other side",
        _json("tokenizer_config.json", lambda values: values.update(padding_side="left")),
        "tokenizer padding side",
        r"padding_side: left, the original's is right",
    ),
    _defect(
        "the tokenizer has no maximum length, but transformers' sentinel for none",
        _json("tokenizer_config.json", lambda values: values.update(model_max_length=10**30)),
        "tokenizer max length",
        r"model_max_length: 1e\+30, the model takes 24",
    ),
    _defect(
        "the tokenizer's first and last token are swapped",
        _json("tokenizer_config.json", _swapped_tokens),
        "tokenizer special tokens",
        r"cls_token: \[SEP\] \(3\), the original's is \[CLS\] \(2\)",
    ),
)
