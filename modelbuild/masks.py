"""Attention masks of every kind that a model is tried with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

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
