"""Checkpoints of tiny text models with seeded weights that tell texts apart, and tokenizers as their families have."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tiny_tokenizers import save_wordpiece
from tokenizers import pre_tokenizers

from modelbuild.tasks import TASKS, TaskName

ModelName = Literal["bert", "distilbert", "minilm", "roberta"]
LABELS = ("sad", "so so", "glad")

# Weights this large give answers that are not undecided, and no noise.
_SPREAD = 0.2
_BERT: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 48, "initializer_range": _SPREAD,
}  # fmt: skip
_DISTILBERT: dict[str, Any] = {
    "vocab_size": 64, "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 48,
    "initializer_range": _SPREAD,
}  # fmt: skip
# MiniLM is a BERT with many narrow heads; RoBERTa's first position is 2.
CONFIGS: dict[ModelName, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _BERT),
    "distilbert": ("DistilBertConfig", _DISTILBERT),
    "minilm": ("BertConfig", _BERT | {"hidden_size": 48, "num_attention_heads": 12, "num_hidden_layers": 1}),
    "roberta": (
        "RobertaConfig",
        _BERT | {"vocab_size": 288, "max_position_embeddings": 50, "type_vocab_size": 1, "num_hidden_layers": 1},
    ),
}


def save_checkpoint(folder: Path, model: ModelName, task: TaskName) -> None:
    """Save `model` for `task` and its tokenizer into `folder`."""
    class_name, settings = CONFIGS[model]
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
    config = getattr(transformers, class_name)(**settings, **(labels if TASKS[task].labels else {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, TASKS[task].auto_class).from_config(config).save_pretrained(folder)
    if model == "roberta":
        _save_bytes(folder)
    else:
        save_wordpiece(folder)
        if model == "distilbert":
            transformers.DistilBertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


def _save_bytes(folder: Path) -> None:
    """RoBERTa's tokenizer, of its special tokens, the 256 bytes and a few pairs."""
    pairs = [("t", "h"), ("th", "e"), ("Ġ", "the"), *(("Ġ", letter) for letter in string.ascii_lowercase[:20])]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += ["".join(pair) for pair in pairs] + ["<mask>"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
    merges.write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs)]) + "\n", encoding="utf-8")
    transformers.RobertaTokenizerFast(str(vocabulary), str(merges)).save_pretrained(folder)
