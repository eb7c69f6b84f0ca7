"""Tokenizers of 64 tokens, as transformers saves them."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ACCENTED = ["ü", "Ü"]
WORDS = [
    *SPECIAL, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), *_ACCENTED, "the", "T",
    "H", ".", "!",
]  # fmt: skip


def save_wordpiece(folder: Path, words: list[str] = WORDS, **settings: Any) -> None:
    """Save a WordPiece tokenizer, BERT's, of `words` into `folder`."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(vocabulary), **settings).save_pretrained(folder)


def save_bpe(folder: Path, **special: str) -> None:
    """Save a BPE tokenizer of 64 tokens into `folder`, like GPT-2's: without padding or separators."""
    letters = [*string.ascii_letters, "Ġ", "."]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "r"), ("o", "u")]
    tokens = [*letters, *("".join(pair) for pair in merges), "<|endoftext|>"]
    tokens += [f"<extra_{index}>" for index in range(64 - len(tokens))]
    model = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end,
        model_input_names=["input_ids", "attention_mask"], **special,
    ).save_pretrained(folder)  # fmt: skip
