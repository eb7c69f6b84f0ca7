"""Decoders that read the prompt themselves: one graph, from tokens and a cache to scores and a longer cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.decoding import RunGraph
from modelbuild.decoding.prompt import Prompt
from modelbuild.interface import Input, Interface
from modelbuild.sizes import largest

Array = npt.NDArray[Any]

GRAPH = "model"
_PAST, _PRESENT = "past_key_values.", "present."


class CausalDecoder:
    """One graph. Positions are counted from the mask, as transformers does in generation."""

    def __init__(self, run: RunGraph, interface: Interface) -> None:
        self._run = run
        self._interface = interface
        self._mask: Array = np.zeros((0, 0), dtype=np.int64)
        self._past: dict[str, Array] = {}

    def first(self, prompt: Prompt) -> Array:
        """The scores after each token of the prompt, `(batch, length, vocabulary)`."""
        self._mask = prompt.mask
        self._past = {value.name: _empty(value, len(prompt.tokens)) for value in _cache(self._interface)}
        return self._read(prompt.tokens)

    def step(self, tokens: Array) -> Array:
        """The scores after each of `tokens`, `(batch, new)`, which come after all before."""
        self._mask = np.concatenate([self._mask, np.ones_like(tokens)], axis=1)
        return self._read(tokens)

    def _read(self, tokens: Array) -> Array:
        given = {
            "input_ids": tokens,
            "attention_mask": self._mask,
            "position_ids": np.maximum(np.cumsum(self._mask, axis=1) - 1, 0)[:, -tokens.shape[1] :],
        }
        known = {name: given[name] for name in self._interface.input_names() if name in given}
        outputs = self._run(GRAPH, known | self._past)
        self._past = {name: outputs[_PRESENT + name.removeprefix(_PAST)] for name in self._past}
        return outputs["logits"]


def decoder(run: RunGraph, interfaces: Mapping[str, Interface]) -> CausalDecoder:
    """A decoder by the graph `model`."""
    return CausalDecoder(run, interfaces[GRAPH])


def prompts(
    interfaces: Mapping[str, Interface], config: Any, lengths: Sequence[int], rng: np.random.Generator
) -> Prompt:
    """Random tokens, the shorter rows padded on the left."""
    ids = interfaces[GRAPH].content("token_ids")
    assert ids is not None
    longest = max(lengths)
    return Prompt(
        tokens=rng.integers(0, ids.below, (len(lengths), longest)).astype(ids.dtype),
        mask=(np.arange(longest)[None] >= longest - np.array(lengths)[:, None]).astype(np.int64),
    )


def room(interfaces: Mapping[str, Interface]) -> int:
    """How many tokens a text may become, prompt included."""
    interface = interfaces[GRAPH]
    return largest(interface, interface.axes_of("length")[0])


def generate_inputs(prompt: Prompt) -> dict[str, Array]:
    """Tokens and their mask."""
    return {"input_ids": prompt.tokens, "attention_mask": prompt.mask}


def _cache(interface: Interface) -> list[Input]:
    return [value for value in interface.inputs if value.name.startswith(_PAST)]


def _empty(value: Input, batch: int) -> Array:
    sizes = [batch, *(0 if isinstance(axis, str) else axis for axis in value.shape[1:])]
    return np.zeros(sizes, dtype=value.dtype)
