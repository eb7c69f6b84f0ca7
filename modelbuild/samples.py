"""Seeded inputs for a text model: token ids, attention masks of several kinds, token types."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# What is tried where a config names no maximum.
_POSITIONS = 512

# Families of fairseq's line: their first token has the position after the padding token's id, so that so many rows of
# the position table are never used (transformers, `create_position_ids_from_input_ids`).
_POSITIONS_AFTER_PADDING = frozenset(
    {
        "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip

# Attention masks by name, with the words that reports use for them. `one`: one token in each row; `empty`: no token in
# the last row.
MASKS = {
    "ones": "no padding",
    "right": "right padding",
    "left": "left padding",
    "holes": "holes in the mask",
    "one": "one token",
    "empty": "an empty row",
}

TEXTS = (
    "The harbour was quiet.",
    "Nobody expected the second train to arrive before the first one, least of all the station master.",
    "7 of 9 samples (78 %) passed!",
    "Über naïve façades, in Zürich & São Paulo.",
    "A short one, then",
    "Rain fell on the terraces all night; by morning the lower road, which should have been raised, was gone.",
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a text model can take: token ids below `vocab_size`, token types below `type_vocab_size`, `max_positions`
    tokens.
    """

    vocab_size: int
    type_vocab_size: int
    max_positions: int

    def facts(self) -> dict[str, int]:
        """The same as a report has it, with the axis `sequence` by its name."""
        return {"vocab_size": self.vocab_size, "type_vocab_size": self.type_vocab_size, "sequence": self.max_positions}

    @classmethod
    def of_facts(cls, facts: Mapping[str, int]) -> Limits:
        """The limits that a report has."""
        return cls(
            vocab_size=facts["vocab_size"], type_vocab_size=facts["type_vocab_size"], max_positions=facts["sequence"]
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs by name, each `(batch, sequence)` of int64, and the kind they are of, for reports (`left padding`)."""

    kind: str
    inputs: dict[str, Ints]

    @property
    def label(self) -> str:
        """Kind and size: `left padding 3x7`."""
        return f"{self.kind} {'x'.join(map(str, self.valid.shape))}"

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """The positions that the attention mask lets through, `(batch, sequence)`; only there do outputs mean
        anything. All of them, for a model that takes no mask.
        """
        mask = self.inputs.get("attention_mask")
        return np.ones(self.inputs["input_ids"].shape, dtype=bool) if mask is None else mask.astype(bool)


def limits_of(config: Any) -> Limits:
    """The limits in a transformers config. What a family lacks, or has no limit for, counts as: one token type, 512
    positions.
    """
    after_padding = getattr(config, "model_type", "") in _POSITIONS_AFTER_PADDING
    unused = (config.pad_token_id or 0) + 1 if after_padding else 0
    given = getattr(config, "max_position_embeddings", None)
    positions = _POSITIONS if given is None or int(given) < 1 else int(given)
    return Limits(
        vocab_size=int(config.vocab_size),
        type_vocab_size=int(getattr(config, "type_vocab_size", 1) or 1),
        max_positions=positions - unused,
    )


def random_batch(
    names: Sequence[str], limits: Limits, *, batch: int, sequence: int, mask: str, rng: np.random.Generator
) -> Batch:
    """A batch of random tokens under an attention mask of kind `mask`, one of MASKS."""
    shape = (batch, sequence)
    arrays = {
        "input_ids": rng.integers(0, limits.vocab_size, shape, dtype=np.int64),
        "attention_mask": attention_mask(shape, mask, rng),
        "token_type_ids": rng.integers(0, limits.type_vocab_size, shape, dtype=np.int64),
    }
    return Batch(kind=MASKS[mask], inputs={name: arrays[name] for name in names})


def attention_mask(shape: tuple[int, int], kind: str, rng: np.random.Generator) -> Ints:
    """A mask `(batch, sequence)` of int64, 1 for tokens and 0 for padding, of one of MASKS.

    Rows have tokens, except for the last one of `empty`; and a mask that is not `ones` masks something, if the shape
    allows it.
    """
    batch, sequence = shape
    positions = np.arange(sequence)[None, :]
    lengths = rng.integers(1, sequence + 1, size=(batch, 1))
    lengths[0] = rng.integers(1, max(sequence, 2))
    match kind:
        case "ones":
            mask = np.ones(shape, dtype=bool)
        case "right":
            mask = positions < lengths
        case "left":
            mask = positions >= sequence - lengths
        case "holes":
            mask = _with_holes(shape, rng)
        case "one":
            mask = positions == rng.integers(0, sequence, size=(batch, 1))
        case "empty":
            mask = positions < np.where(np.arange(batch)[:, None] == batch - 1, 0, lengths)
        case _:
            raise ValueError(f"there is no mask '{kind}'")
    return np.ascontiguousarray(mask, dtype=np.int64)


def _with_holes(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Tokens at the first and the last position, and padding between them."""
    mask = rng.random(shape) < 0.5
    mask[:, [0, -1]] = True
    if shape[1] > 2:
        mask[np.arange(shape[0]), rng.integers(1, shape[1] - 1, size=shape[0])] = False
    return mask


def applies(mask: str, *, batch: int, sequence: int) -> bool:
    """Whether a mask of this kind is one of its own at this size: padding needs two positions, a hole three, an empty
    row another beside it.
    """
    return {"ones": True, "holes": sequence > 2, "empty": batch > 1}.get(mask, sequence > 1)


def covering_batches(
    names: Sequence[str], limits: Limits, *, seed: int, tokens: int | None = None, rows_at_once: int = 4
) -> Iterator[Batch]:
    """Batches that together look up every row of every embedding table: tokens, positions and token types, in rows of
    the largest length.

    With `tokens`, so many rows of the token table, drawn by `seed`, and every row of the other two.
    """
    rng = np.random.default_rng(seed)
    sequence = limits.max_positions
    chosen = rng.permutation(limits.vocab_size)[:tokens]
    rows = -(-len(chosen) // sequence)
    ids = np.resize(chosen, (rows, sequence)).astype(np.int64)
    types = np.resize(np.arange(limits.type_vocab_size), (rows, sequence)).astype(np.int64)
    for start in range(0, rows, rows_at_once):
        part = slice(start, start + rows_at_once)
        arrays = {"input_ids": ids[part], "attention_mask": np.ones_like(ids[part]), "token_type_ids": types[part]}
        yield Batch(kind="embeddings", inputs={name: arrays[name] for name in names})


def random_batches(
    names: Sequence[str],
    limits: Limits,
    *,
    batches: Sequence[int],
    sequences: Sequence[int],
    masks: Sequence[str],
    seed: int,
    per_size: int | None = None,
) -> Iterator[Batch]:
    """A batch for every combination of size, length (at most the model's maximum) and mask, the same for the same
    seed.

    With `per_size`, no more than so many masks at each size, chosen in turn, so that every mask meets many sizes and
    lengths without meeting all of their combinations.
    """
    rng = np.random.default_rng(seed)
    lengths = sorted({min(length, limits.max_positions) for length in sequences})
    for (row, batch), (column, sequence) in itertools.product(enumerate(batches), enumerate(lengths)):
        fitting = [mask for mask in masks if applies(mask, batch=batch, sequence=sequence)]
        fitting = fitting if "attention_mask" in names else ["ones"]
        for mask in _in_turn(fitting, per_size, row + column) if per_size else fitting:
            yield random_batch(names, limits, batch=batch, sequence=sequence, mask=mask, rng=rng)


def _in_turn(masks: Sequence[str], count: int, start: int) -> list[str]:
    """`count` of the masks, evenly spread, beginning with number `start`."""
    count = min(count, len(masks))
    return [masks[(start + turn * len(masks) // count) % len(masks)] for turn in range(count)]
