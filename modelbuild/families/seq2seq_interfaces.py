"""What the three graphs of an encoder and its decoder take and give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from modelbuild.errors import ExportError
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.tasks import Task

PAST, PRESENT = "past_key_values.", "present."
# By layer, the cache of what was written, and that of what the encoder gave.
SELF, CROSS = ("decoder.key", "decoder.value"), ("encoder.key", "encoder.value")
_BATCH = Axis(name="batch", kind="batch")


def of_text(model: torch.nn.Module) -> Interface:
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
        axes=(_BATCH, Axis(name="sequence", kind="length", largest=positions_of(config))),
    )


def of_speech(model: torch.nn.Module, task: Task) -> Interface:
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


def positions_of(config: Any) -> int | None:
    """How many tokens a text may have; None where positions are relative, and any number will do."""
    given = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None)
    return int(given) if given else None


@dataclass(frozen=True, kw_only=True)
class Decoding:
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


def first_step(shape: Decoding) -> Interface:
    new = "decoder_sequence"
    states = Input(name="encoder_hidden_states", dtype="float32", shape=("batch", shape.encoder_sequence, shape.width))
    return Interface(
        inputs=(_tokens(shape), states, *_mask(shape)),
        outputs=(_scores(), *_presents(shape, new, cross=True)),
        axes=(_BATCH, Axis(name=new, kind="length", largest=shape.largest), *shape.axes()),
    )


def next_step(shape: Decoding) -> Interface:
    cache = (
        Input(name=f"{PAST}{number}.{name}", dtype="float32", shape=("batch", heads, axis, size))
        for number, (heads, size) in enumerate(shape.layers)
        for names, axis in ((SELF, "past"), (CROSS, shape.encoder_sequence))
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


def _tokens(shape: Decoding) -> Input:
    axes = ("batch", "decoder_sequence")
    return Input(name="input_ids", dtype="int64", shape=axes, content="token_ids", below=shape.vocabulary)


def _mask(shape: Decoding) -> Iterator[Input]:
    if shape.masked:
        axes = ("batch", shape.encoder_sequence)
        yield Input(name="encoder_attention_mask", dtype="int64", shape=axes, content="attention_mask")


def _scores() -> Output:
    return Output(name="logits", shape=("batch", "decoder_sequence"), meaning="scores")


def _presents(shape: Decoding, tokens: str, *, cross: bool) -> Iterator[Output]:
    parts = ((SELF, tokens), *(((CROSS, shape.encoder_sequence),) if cross else ()))
    for number, (heads, _) in enumerate(shape.layers):
        for names, axis in parts:
            for name in names:
                yield Output(name=f"{PRESENT}{number}.{name}", shape=("batch", heads, axis))
