"""Decoders beside an encoder: it runs once, one graph makes the cache, and another goes on with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.config_fields import start_token
from modelbuild.decoding import RunGraph
from modelbuild.decoding.prompt import Prompt
from modelbuild.interface import Interface
from modelbuild.samples import sample
from modelbuild.sizes import largest, typical_sizes

Array = npt.NDArray[Any]

ENCODER, FIRST, NEXT = "encoder_model", "decoder_model", "decoder_with_past_model"
_PAST, _PRESENT = "past_key_values.", "present."


class Seq2SeqDecoder:
    """Three graphs. What the encoder gave is in the cache after the first step, and stays there."""

    def __init__(self, run: RunGraph, interfaces: Mapping[str, Interface]) -> None:
        self._run = run
        self._interfaces = interfaces
        self._mask: dict[str, Array] = {}
        self._past: dict[str, Array] = {}

    def first(self, prompt: Prompt) -> Array:
        """The scores after each token of the prompt, `(batch, length, vocabulary)`."""
        states = self._run(ENCODER, prompt.inputs)["last_hidden_state"]
        self._mask = {f"encoder_{name}": mask for name, mask in prompt.inputs.items() if name == "attention_mask"}
        outputs = self._run(FIRST, {"input_ids": prompt.tokens, "encoder_hidden_states": states} | self._mask)
        names = self._interfaces[NEXT].input_names()
        self._past = {name: outputs[_present(name)] for name in names if name.startswith(_PAST)}
        return outputs["logits"]

    def step(self, tokens: Array) -> Array:
        """The scores after each of `tokens`, `(batch, new)`, which come after all before."""
        outputs = self._run(NEXT, {"input_ids": tokens} | self._mask | self._past)
        self._past = {name: outputs.get(_present(name), before) for name, before in self._past.items()}
        return outputs["logits"]


def _present(past: str) -> str:
    return _PRESENT + past.removeprefix(_PAST)


def decoder(run: RunGraph, interfaces: Mapping[str, Interface]) -> Seq2SeqDecoder:
    """A decoder by the three graphs."""
    return Seq2SeqDecoder(run, interfaces)


def prompts(
    interfaces: Mapping[str, Interface], config: Any, lengths: Sequence[int], rng: np.random.Generator
) -> Prompt:
    """The token that every text begins with and random ones after it, and for the encoder random texts of those
    lengths, the shorter rows padded on the right. Speech has one length, and is as random.

    What a model makes after its first token alone may be that token again and again, as with random weights, and then
    nobody sees where it looks.
    """
    batch, interface = len(lengths), interfaces[ENCODER]
    written = interfaces[FIRST].content("token_ids")
    assert written is not None
    ids = interface.content("token_ids")
    longest = min(max(lengths), largest(interface, interface.axis(str(ids.shape[1])))) if ids else 1
    mask = interface.content("attention_mask")
    padded = np.arange(longest)[None] < np.array(lengths)[:, None]
    sizes = typical_sizes(interface, batch=batch, length=longest)
    given = {mask.name: padded.astype(mask.dtype)} if mask else {}
    start = start_token(config)
    assert start is not None  # or it would not have been exported
    tokens = rng.integers(0, written.below, (batch, max(lengths))).astype(written.dtype)
    tokens[:, 0] = start
    inputs = sample(interface, sizes, mask="ones", rng=rng, given=given).inputs
    return Prompt(tokens=tokens, mask=np.ones_like(tokens), inputs=inputs)


def room(interfaces: Mapping[str, Interface]) -> int:
    """How many tokens a text may become, the first one included."""
    interface = interfaces[NEXT]
    return largest(interface, interface.axis("decoder_sequence")) + interface.axis("past").smallest


def generate_inputs(prompt: Prompt) -> dict[str, Array]:
    """What the encoder is given, and how the text begins."""
    return {**prompt.inputs, "decoder_input_ids": prompt.tokens}
