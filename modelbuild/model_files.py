"""The files of a Hugging Face model folder that matter here, by name."""

from __future__ import annotations

from pathlib import Path

CONFIG_FILE = "config.json"
WEIGHT_GLOBS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
)
# With one of these there is a tokenizer; the others go with it.
VOCABULARY_FILES = frozenset(
    {"tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"}
)
OTHER_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)


def is_weight(name: str) -> bool:
    """Whether a file of that name holds weights, or says which files do."""
    return any(Path(name).match(glob) for glob in WEIGHT_GLOBS)
