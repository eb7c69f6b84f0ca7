"""`golden_text.json`: what the original's tokenizer makes of some texts, so that any copy can be compared with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild.batches import TEXTS
from modelbuild.digest import write_text
from modelbuild.errors import ExportError, PackageError
from modelbuild.tokenizer import open_tokenizer

FORMAT = 1
FILE_NAME = "golden_text.json"

GOLDEN_TEXTS = (
    *TEXTS,
    "ÀÉÎÕÜ àéîõü ǅ ß ﬁ e\u0301 \u212b",
    "港は静かだった。 安静的港口 항구는 조용했다",
    "👩‍👩‍👧 🚢🇨🇭 ✓ →",
    "",
    "   ",
    "\ttabs\nand\r\nlines\u00a0 and   spaces ",
    "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s> <pad> <mask> <unk> <|endoftext|> ##s ▁a",
    "THE HARBOUR WAS QUIET, the Harbour Was Quiet",
    "donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3,
    " ".join(TEXTS * 12),
)
# A short text, a longer one and an empty one, by their place above: enough to see where padding goes.
_PADDED = (0, 3, 9)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A text, the ids it became and their tokens, special tokens included, cut at the golden text's `max_length`."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GoldenText:
    """What a tokenizer makes of `GOLDEN_TEXTS`.

    `padded` and `mask` are the ids and attention masks of three of them as one batch, padded as the tokenizer pads
    unless told otherwise; both are empty for a tokenizer without a padding token. `special_tokens` are tokens and ids
    by role (`pad_token`); `input_names` are the inputs that it makes for a model.
    """

    max_length: int
    input_names: tuple[str, ...]
    padding_side: str
    special_tokens: Mapping[str, tuple[str, int | None]]
    texts: tuple[Encoded, ...]
    padded: tuple[tuple[int, ...], ...]
    mask: tuple[tuple[int, ...], ...]


def golden_text(folder: Path, *, max_length: int) -> GoldenText:
    """What the tokenizer in `folder` makes of the texts, each cut at `max_length` tokens.

    Raises ExportError when it cannot be read or used.
    """
    tokenizer = open_tokenizer(folder)
    try:
        return _encoded(tokenizer, max_length)
    except Exception as error:
        raise ExportError(f"the tokenizer cannot be used: {error}", where=str(folder)) from error


def _encoded(tokenizer: Any, max_length: int) -> GoldenText:
    rows = tokenizer(list(GOLDEN_TEXTS), truncation=True, max_length=max_length)["input_ids"]
    batch: Mapping[str, list[list[int]]] = {"input_ids": [], "attention_mask": []}
    if tokenizer.pad_token is not None:
        padded = [GOLDEN_TEXTS[index] for index in _PADDED]
        batch = tokenizer(
            padded, padding=True, truncation=True, max_length=max_length, return_attention_mask=True
        ).data  # fmt: skip
    return GoldenText(
        max_length=max_length,
        input_names=tuple(tokenizer.model_input_names),
        padding_side=tokenizer.padding_side,
        special_tokens=_special_tokens(tokenizer),
        texts=tuple(
            Encoded(text=text, ids=tuple(ids), tokens=tuple(tokenizer.convert_ids_to_tokens(ids)))
            for text, ids in zip(GOLDEN_TEXTS, rows, strict=True)
        ),
        padded=tuple(map(tuple, batch["input_ids"])),
        mask=tuple(map(tuple, batch["attention_mask"])),
    )


def _special_tokens(tokenizer: Any) -> dict[str, tuple[str, int | None]]:
    found = {}
    for role, value in tokenizer.special_tokens_map.items():
        named = {f"{role}[{i}]": token for i, token in enumerate(value)} if isinstance(value, list) else {role: value}
        for name, token in named.items():
            found[name] = (str(token), tokenizer.convert_tokens_to_ids(str(token)))
    return dict(sorted(found.items()))


def write_golden_text(golden: GoldenText, folder: Path) -> None:
    """Write `golden_text.json` into `folder`, a text to a line."""
    head = {
        "format": FORMAT,
        "max_length": golden.max_length,
        "input_names": golden.input_names,
        "padding_side": golden.padding_side,
        "special_tokens": golden.special_tokens,
        "padded": golden.padded,
        "mask": golden.mask,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    texts = ",\n".join(f"  {json.dumps(vars(encoded), ensure_ascii=False)}" for encoded in golden.texts)
    write_text(folder / FILE_NAME, "{\n" + ",\n".join([*lines, f'"texts": [\n{texts}\n]']) + "\n}\n")


def read_golden_text(folder: Path) -> GoldenText:
    """The golden text in `folder`. Raises PackageError when there is none, or it is damaged or of a newer format."""
    try:
        data = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        if data["format"] > FORMAT:
            raise PackageError(f"{FILE_NAME} has format {data['format']}, which is newer than {FORMAT}")
        return GoldenText(
            max_length=int(data["max_length"]),
            input_names=tuple(map(str, data["input_names"])),
            padding_side=str(data["padding_side"]),
            special_tokens={role: (str(token), number) for role, (token, number) in data["special_tokens"].items()},
            texts=tuple(
                Encoded(text=str(item["text"]), ids=_whole(item["ids"]), tokens=tuple(map(str, item["tokens"])))
                for item in data["texts"]
            ),
            padded=tuple(map(_whole, data["padded"])),
            mask=tuple(map(_whole, data["mask"])),
        )
    except FileNotFoundError as error:
        raise PackageError(f"{FILE_NAME} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"{FILE_NAME} is damaged: {error!r}") from error


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(map(int, numbers))
