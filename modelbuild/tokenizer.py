"""The tokenizer in a model's folder: open it as it is, and make inputs of texts. A door to transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers

from modelbuild.errors import ExportError, first_line
from modelbuild.model_files import TOKENIZER_FILES


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, as transformers opens it.

    Raises ExportError, which names the file if it is not JSON, when it cannot be read.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        what = _not_json(folder) or first_line(error)
        raise ExportError(f"the tokenizer cannot be read: {what}", where=str(folder)) from error


def _not_json(folder: Path) -> str:
    for path in [folder / name for name in TOKENIZER_FILES if name.endswith(".json")]:
        try:
            json.loads(path.read_bytes() if path.exists() else "{}")
        except ValueError as error:
            return f"{path.name}: {error}"
    return ""


def tokenize(
    folder: Path, texts: Sequence[str], names: Sequence[str], *, padding_side: str | None, max_length: int
) -> dict[str, npt.NDArray[Any]]:
    """`texts` through the tokenizer in `folder`: arrays `(batch, sequence)` of int64 for each of `names`, padded on
    that side, or as the tokenizer does it.
    """
    tokenizer = open_tokenizer(folder)
    tokenizer.padding_side = padding_side or tokenizer.padding_side
    if tokenizer.pad_token is None:  # any token will do, for the mask hides it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    encoded = tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=max_length,
        return_tensors="np",
        return_token_type_ids="token_type_ids" in names,
        return_attention_mask=True,
    )
    return {name: encoded[name].astype(np.int64) for name in names}


def tokenizer_size(folder: Path) -> int:
    """The rows that an embedding needs for the tokenizer in `folder`: its largest id, added tokens included, and 1."""
    return int(max(open_tokenizer(folder).get_vocab().values(), default=-1)) + 1
