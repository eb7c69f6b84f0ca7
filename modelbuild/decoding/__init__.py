"""Decoding: one token after another, each the best, by the graphs of a model and a cache. One module per family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from modelbuild.decoding.prompt import Prompt
    from modelbuild.interface import Interface
    from modelbuild.tasks import FamilyName

    Array = npt.NDArray[Any]

# A family that is not here makes nothing step by step.
DECODERS: dict[FamilyName, str] = {
    "causal-lm": "modelbuild.decoding.causal",
    "seq2seq": "modelbuild.decoding.seq2seq",
}


class RunGraph(Protocol):
    """Runs one graph of a model, by the name of its component: the outputs by name for its inputs by name."""

    def __call__(self, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]: ...


class Decoder(Protocol):
    """One text in the making, or several beside each other, and its cache.

    `first` forgets what was, and reads a prompt with an empty cache; `step` reads tokens `(batch, new)` after all that
    was read before. Both give the scores of the token that comes next after each position that they read, `(batch, new,
    vocabulary)`.
    """

    def first(self, prompt: Prompt) -> Array: ...

    def step(self, tokens: Array) -> Array: ...


class DecodingModule(Protocol):
    """What the module of a family has. `interfaces` are those of its graphs by name.

    `decoder` makes a decoder for graphs that `run` runs. `prompts` makes prompts of random tokens, one of each length,
    as one batch; `config` is the model's. `room` is how many tokens the longest of them may become, prompt included.
    `generate_inputs` is what transformers' `generate` is to be given for a prompt.
    """

    def decoder(self, run: RunGraph, interfaces: Mapping[str, Interface]) -> Decoder: ...

    def prompts(
        self, interfaces: Mapping[str, Interface], config: Any, lengths: Sequence[int], rng: np.random.Generator
    ) -> Prompt: ...

    def room(self, interfaces: Mapping[str, Interface]) -> int: ...

    def generate_inputs(self, prompt: Prompt) -> dict[str, Array]: ...
