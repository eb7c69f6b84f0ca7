"""Encoders with a decoder that makes text step by step: texts or speech in, three graphs.

Their names, inputs and outputs are Optimum's: an encoder, a decoder for the first step, which makes the cache, and one
for all others, which is given it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from modelbuild.component import Component, Named, Tensors
from modelbuild.config_fields import start_token
from modelbuild.errors import ExportError, first_line
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.tasks import Task

_PAST, _PRESENT = "past_key_values.", "present."
_SELF, _CROSS = ("decoder.key", "decoder.value"), ("encoder.key", "encoder.value")
_BATCH = Axis(name="batch", kind="batch")


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
        return {"logits": scores} | _named(layers, (*_SELF, *_CROSS))


class NextStep(Named):
    """The decoder that is given a cache."""

    def forward(self, inputs: Tensors) -> Tensors:
        """Scores, and the longer keys and values of every layer for the tokens. Those for what the encoder gave stay.

        The encoder's states themselves are not read any more, and only their size is given.
        """
        given = [value for name, value in inputs.items() if name.startswith(_PAST)]
        layers = [tuple(given[start : start + 4]) for start in range(0, len(given), 4)]
        keys = layers[0][2]
        states = keys.new_zeros(()).expand(keys.shape[0], keys.shape[2], self.model.config.d_model)
        cache = EncoderDecoderCache.from_legacy_cache(tuple(layers))
        scores, longer = _decoded(self.model, inputs, states, cache)
        return {"logits": scores} | _named(longer, _SELF)


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
        f"{_PRESENT}{number}.{name}": value
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
    encoder = _of_speech(model, task) if task.inputs[0] == "input_features" else _of_text(model)
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
            interface=_first(shape),
            attention_layers=2 * len(shape.layers),
        ),
        Component(
            name="decoder_with_past_model",
            file="decoder_with_past_model.onnx",
            module=NextStep(model).eval(),
            interface=_next(shape),
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


def _of_text(model: torch.nn.Module) -> Interface:
    """What the encoder of texts takes and gives."""
    config: Any = model.config
    return Interface(
        inputs=(
            Input(
                name="input_ids",
                dtype="int64",
                shape=("batch", "sequence"),
                content="token_ids",
                below=config.vocab_size,
            ),
            Input(name="attention_mask", dtype="int64", shape=("batch", "sequence"), content="attention_mask"),
        ),
        outputs=(Output(name="last_hidden_state", shape=("batch", "sequence")),),
        axes=(_BATCH, Axis(name="sequence", kind="length", largest=_positions(config))),
    )


def _of_speech(model: torch.nn.Module, task: Task) -> Interface:
    """What the encoder of speech takes and gives: spectrograms of one length."""
    config: Any = model.config
    encoder: Any = model.get_encoder()
    if not hasattr(config, "num_mel_bins"):
        raise ExportError(
            f"{type(model).__name__} takes no spectrograms of one length",
            where=task.name,
            hint="choose a model as Whisper is",
        )
    frames = config.max_source_positions * encoder.conv1.stride[0] * encoder.conv2.stride[0]
    shape = ("batch", int(config.num_mel_bins), int(frames))
    return Interface(
        inputs=(Input(name="input_features", dtype="float32", shape=shape),),
        outputs=(Output(name="last_hidden_state", shape=("batch", int(config.max_source_positions))),),
        axes=(_BATCH,),
    )


def _positions(config: Any) -> int | None:
    """How many tokens a text may have; None where positions are relative, and any number will do."""
    given = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None)
    return int(given) if given else None


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What the decoders go by: the axis of the encoder's positions, a name or a size, how many there may be; whether
    it is masked; its width; the size of the vocabulary; how many tokens a text may have; and heads and the size of
    each, for every layer.
    """

    encoder_sequence: str | int
    encoder_largest: int | None
    masked: bool
    width: int
    vocabulary: int
    largest: int | None
    layers: tuple[tuple[int, int], ...]

    def axes(self) -> tuple[Axis, ...]:
        """That of the encoder's positions, where it has no size."""
        if isinstance(self.encoder_sequence, int):
            return ()
        return (Axis(name=self.encoder_sequence, kind="length", largest=self.encoder_largest),)


def _shape(model: torch.nn.Module, encoder: Interface) -> _Shape:
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
    keys = [value for name, value in made.items() if name.endswith(_SELF[0])]
    return _Shape(
        encoder_sequence="encoder_sequence" if text else positions,
        encoder_largest=encoder.axis(positions).largest if isinstance(positions, str) else None,
        masked=text,
        width=int(config.d_model),
        vocabulary=int(config.vocab_size),
        largest=_positions(config),
        layers=tuple((int(key.shape[1]), int(key.shape[3])) for key in keys),
    )


def _first(shape: _Shape) -> Interface:
    new = "decoder_sequence"
    states = Input(name="encoder_hidden_states", dtype="float32", shape=("batch", shape.encoder_sequence, shape.width))
    return Interface(
        inputs=(_tokens(shape), states, *_mask(shape)),
        outputs=(_scores(), *_presents(shape, new, cross=True)),
        axes=(_BATCH, Axis(name=new, kind="length", largest=shape.largest), *shape.axes()),
    )


def _next(shape: _Shape) -> Interface:
    cache = (
        Input(name=f"{_PAST}{number}.{name}", dtype="float32", shape=("batch", heads, axis, size))
        for number, (heads, size) in enumerate(shape.layers)
        for names, axis in ((_SELF, "past"), (_CROSS, shape.encoder_sequence))
        for name in names
    )
    return Interface(
        inputs=(_tokens(shape), *_mask(shape), *cache),
        outputs=(_scores(), *_presents(shape, "total", cross=False)),
        axes=(
            _BATCH,
            Axis(name="decoder_sequence", kind="length"),
            *shape.axes(),
            Axis(name="past", kind="past"),
            Axis(name="total", kind="sum", parts=("past", "decoder_sequence"), largest=shape.largest),
        ),
    )


def _tokens(shape: _Shape) -> Input:
    axes = ("batch", "decoder_sequence")
    return Input(name="input_ids", dtype="int64", shape=axes, content="token_ids", below=shape.vocabulary)


def _mask(shape: _Shape) -> Iterator[Input]:
    if shape.masked:
        axes = ("batch", shape.encoder_sequence)
        yield Input(name="encoder_attention_mask", dtype="int64", shape=axes, content="attention_mask")


def _scores() -> Output:
    return Output(name="logits", shape=("batch", "decoder_sequence"), meaning="scores")


def _presents(shape: _Shape, tokens: str, *, cross: bool) -> Iterator[Output]:
    parts = ((_SELF, tokens), *(((_CROSS, shape.encoder_sequence),) if cross else ()))
    for number, (heads, _) in enumerate(shape.layers):
        for names, axis in parts:
            for name in names:
                yield Output(name=f"{_PRESENT}{number}.{name}", shape=("batch", heads, axis))
