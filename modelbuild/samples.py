"""Seeded inputs for a text model: token ids, attention masks of several kinds, token types."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_COVERING_ROWS = 4

# Families of fairseq's line: their first token has the position after the padding token's id, so that so many rows of
# the position table are never used (transformers, `create_position_ids_from_input_ids`).
_POSITIONS_AFTER_PADDING = frozenset(
    {
        "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip

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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs by name, each `(batch, sequence)` of int64, and the kind they are of, for reports (`left 3x7`)."""

    kind: str
    inputs: dict[str, Ints]

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """The positions that the attention mask lets through, `(batch, sequence)`; only there do outputs mean
        anything. All of them, for a model that takes no mask.
        """
        mask = self.inputs.get("attention_mask")
        return np.ones(self.inputs["input_ids"].shape, dtype=bool) if mask is None else mask.astype(bool)


def limits_of(config: Any) -> Limits:
    """The limits in a transformers config. Names that a family lacks count as: one token type, 512 positions."""
    unused = config.pad_token_id + 1 if getattr(config, "model_type", "") in _POSITIONS_AFTER_PADDING else 0
    return Limits(
        vocab_size=int(config.vocab_size),
        type_vocab_size=int(getattr(config, "type_vocab_size", 1) or 1),
        max_positions=int(getattr(config, "max_position_embeddings", 512)) - unused,
    )


def random_batch(
    names: Sequence[str], limits: Limits, *, batch: int, sequence: int, mask: str, rng: np.random.Generator
) -> Batch:
    """A batch of random tokens. `mask` is `ones`, or pads each row by a random length, `right` or `left`."""
    shape = (batch, sequence)
    arrays = {
        "input_ids": rng.integers(0, limits.vocab_size, shape, dtype=np.int64),
        "attention_mask": attention_mask(shape, mask, rng),
        "token_type_ids": rng.integers(0, limits.type_vocab_size, shape, dtype=np.int64),
    }
    return Batch(kind=f"{mask} {batch}x{sequence}", inputs={name: arrays[name] for name in names})


def attention_mask(shape: tuple[int, int], kind: str, rng: np.random.Generator) -> Ints:
    """A mask `(batch, sequence)`: 1 for tokens, 0 for padding. Every row has a token, and a padded mask has padding."""
    batch, sequence = shape
    if kind == "ones" or sequence == 1:
        return np.ones(shape, dtype=np.int64)
    lengths = rng.integers(1, sequence + 1, size=(batch, 1))
    lengths[0] = rng.integers(1, sequence)
    right = (np.arange(sequence)[None, :] < lengths).astype(np.int64)
    return right if kind == "right" else np.ascontiguousarray(right[:, ::-1])


def covering_batches(names: Sequence[str], limits: Limits, *, seed: int) -> Iterator[Batch]:
    """Batches that together look up every row of every embedding table: tokens, positions and token types."""
    rng = np.random.default_rng(seed)
    sequence = limits.max_positions
    rows = -(-limits.vocab_size // sequence)
    ids = np.resize(rng.permutation(limits.vocab_size), (rows, sequence)).astype(np.int64)
    types = np.resize(np.arange(limits.type_vocab_size), (rows, sequence)).astype(np.int64)
    for start in range(0, rows, _COVERING_ROWS):
        chosen = slice(start, start + _COVERING_ROWS)
        part = {"input_ids": ids[chosen], "attention_mask": np.ones_like(ids[chosen]), "token_type_ids": types[chosen]}
        yield Batch(
            kind=f"every embedding, part {start // _COVERING_ROWS}", inputs={name: part[name] for name in names}
        )


def random_batches(
    names: Sequence[str],
    limits: Limits,
    *,
    batches: Sequence[int],
    sequences: Sequence[int],
    masks: Sequence[str],
    seed: int,
) -> Iterator[Batch]:
    """A batch for every combination of size, length (at most the model's maximum) and mask, the same for the same
    seed.
    """
    rng = np.random.default_rng(seed)
    lengths = sorted({min(length, limits.max_positions) for length in sequences})
    for batch, sequence, mask in itertools.product(batches, lengths, masks):
        if mask == "ones" or sequence > 1:
            yield random_batch(names, limits, batch=batch, sequence=sequence, mask=mask, rng=rng)
