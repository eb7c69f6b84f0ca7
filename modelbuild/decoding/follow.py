"""A decoder led through a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.decoding import Decoder
from modelbuild.decoding.prompt import Prompt

Array = npt.NDArray[Any]


def greedy(decoder: Decoder, prompt: Prompt, count: int) -> Array:
    """`count` tokens after the prompt, each the best, `(batch, count)`."""
    tokens = [_best(decoder.first(prompt))]
    while len(tokens) < count:
        tokens.append(_best(decoder.step(tokens[-1])))
    return np.concatenate(tokens, axis=1)


def step_by_step(decoder: Decoder, prompt: Prompt, tokens: Array) -> Array:
    """The scores before each of `tokens`, `(batch, count, vocabulary)`, when they come one by one after the prompt."""
    scores = [decoder.first(prompt)[:, -1]]
    scores += [decoder.step(tokens[:, place : place + 1])[:, -1] for place in range(tokens.shape[1] - 1)]
    return np.stack(scores, axis=1)


def at_once(decoder: Decoder, prompt: Prompt, tokens: Array) -> Array:
    """The same by one run on all of them with an empty cache."""
    return decoder.first(prompt.then(tokens[:, :-1]))[:, prompt.tokens.shape[1] - 1 :]


def in_pieces(decoder: Decoder, prompt: Prompt, cut: int) -> Array:
    """The scores after each token of the prompt, `(batch, length, vocabulary)`, read in two pieces, the first of
    `cut` tokens.
    """
    return np.concatenate([decoder.first(prompt.start(cut)), decoder.step(prompt.tokens[:, cut:])], axis=1)


def _best(scores: Array) -> Array:
    return np.asarray(np.argmax(scores[:, -1:], axis=-1), dtype=np.int64)
