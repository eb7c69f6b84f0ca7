"""Encoders with a decoder that makes text step by step: texts or speech in, three graphs.

Their names, inputs and outputs are Optimum's: an encoder, a decoder for the first step, which makes the cache, and one
for all others, which is given it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from modelbuild.component import Component, Named, Tensors
from modelbuild.config_fields import start_token
from modelbuild.errors import ExportError, first_line
from modelbuild.families.seq2seq_interfaces import (
    CROSS,
    PAST,
    PRESENT,
    SELF,
    Decoding,
    first_step,
    next_step,
    of_speech,
    of_text,
    positions_of,
)
from modelbuild.interface import Interface
from modelbuild.tasks import Task


class Encoder(Named):
    """The encoder alone."""

    def forward(self, inputs: Tensors) -> Tensors:
        """Its last hidden state, which the decoders take."""
        return {"last_hidden_state": self.model.get_encoder()(**inputs, return_dict=True).last_hidden_state}


class FirstStep(Named):
    """The decoder that reads the first tokens and all that the encoder gave, and makes the cache."""

    def forward(self, inputs: Tensors) -> Tensors:
        """Scores, and the keys and values of every layer for the tokens and for what the encoder gave."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        scores, layers = _decoded(self.model, inputs, inputs["encoder_hidden_states"], cache)
        return {"logits": scores} | _named(layers, (*SELF, *CROSS))


class NextStep(Named):
    """The decoder that is given a cache."""

    def forward(self, inputs: Tensors) -> Tensors:
        """Scores, and the longer keys and values of every layer for the tokens. Those for what the encoder gave stay.

        The encoder's states themselves are not read any more, and only their size is given.
        """
        given = [value for name, value in inputs.items() if name.startswith(PAST)]
        layers = [tuple(given[start : start + 4]) for start in range(0, len(given), 4)]
        keys = layers[0][2]
        states = keys.new_zeros(()).expand(keys.shape[0], keys.shape[2], self.model.config.d_model)
        cache = EncoderDecoderCache.from_legacy_cache(tuple(layers))
        scores, longer = _decoded(self.model, inputs, states, cache)
        return {"logits": scores} | _named(longer, SELF)


def _decoded(
    model: torch.nn.Module, inputs: Tensors, states: torch.Tensor, cache: EncoderDecoderCache
) -> tuple[torch.Tensor, Sequence[Sequence[torch.Tensor]]]:
    """The scores, and key and value of both attentions for every layer."""
    mask = {"attention_mask": inputs["encoder_attention_mask"]} if "encoder_attention_mask" in inputs else {}
    result = model(
        decoder_input_ids=inputs["input_ids"],
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        past_key_values=cache,
        use_cache=True,
        return_dict=True,
        **mask,
    )
    return result.logits, result.past_key_values.to_legacy_cache()


def _named(layers: Sequence[Sequence[torch.Tensor]], names: Sequence[str]) -> Tensors:
    return {
        f"{PRESENT}{number}.{name}": value
        for number, layer in enumerate(layers)
        for name, value in zip(names, layer, strict=False)
    }


def components(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """An encoder, a decoder for the first step and one for those after it."""
    config: Any = model.config
    if not getattr(config, "is_encoder_decoder", False) or not hasattr(config, "d_model"):
        raise ExportError(
            f"{type(model).__name__} is no encoder and decoder of one width",
            where=task.name,
            hint="choose another model",
        )
    _require_start(model)
    encoder = of_speech(model, task) if task.inputs[0] == "input_features" else of_text(model)
    shape = _shape(model, encoder)
    layers = getattr(config, "encoder_layers", None) or config.num_hidden_layers
    return (
        Component(
            name="encoder_model",
            file="encoder_model.onnx",
            module=Encoder(model).eval(),
            interface=encoder,
            attention_layers=int(layers),
        ),
        Component(
            name="decoder_model",
            file="decoder_model.onnx",
            module=FirstStep(model).eval(),
            interface=first_step(shape),
            attention_layers=2 * len(shape.layers),
        ),
        Component(
            name="decoder_with_past_model",
            file="decoder_with_past_model.onnx",
            module=NextStep(model).eval(),
            interface=next_step(shape),
            attention_layers=2 * len(shape.layers),
        ),
    )


def _require_start(model: torch.nn.Module) -> None:
    """Raise ExportError unless the config says with which token a text begins, and it is one of the vocabulary."""
    config: Any = model.config
    start = start_token(config)
    if start is None or not 0 <= start < config.vocab_size:
        raise ExportError(
            "config.json has no decoder_start_token_id, which every text begins with"
            if start is None
            else f"decoder_start_token_id is {start}, and the vocabulary has {config.vocab_size} tokens",
            where=type(model).__name__,
            hint="set it (T5: 0; otherwise see the model's generation_config.json)",
        )


def _shape(model: torch.nn.Module, encoder: Interface) -> Decoding:
    """Heads and their sizes are those of the cache that the model makes. Raises ExportError when it makes none."""
    config: Any = model.config
    positions = encoder.outputs[0].shape[1]
    text = isinstance(positions, str)
    states = torch.zeros(1, 1 if isinstance(positions, str) else positions, config.d_model)
    try:
        with torch.no_grad():
            made = FirstStep(model)(
                {"input_ids": torch.zeros(1, 1, dtype=torch.int64), "encoder_hidden_states": states.to(model.dtype)}
            )
    except Exception as error:
        raise ExportError(
            f"its decoder makes no cache: {first_line(error)}", where=type(model).__name__, hint="choose another model"
        ) from error
    keys = [value for name, value in made.items() if name.endswith(SELF[0])]
    return Decoding(
        encoder_sequence="encoder_sequence" if text else positions,
        encoder_largest=encoder.axis(positions).largest if isinstance(positions, str) else None,
        masked=text,
        width=int(config.d_model),
        vocabulary=int(config.vocab_size),
        largest=positions_of(config),
        layers=tuple((int(key.shape[1]), int(key.shape[3])) for key in keys),
    )
