"""Images out of noise and text, step by step: a text encoder, a U-Net, and the two halves of an autoencoder.

Files, names and axes are those of Optimum's export. The encoder of images gives the parameters of a distribution, mean
and logarithm of the variance, and not a sample of it, so that the graph has no randomness of its own.
"""

from __future__ import annotations

from typing import Any

import torch

from modelbuild.component import Component, Named, Tensors, pick
from modelbuild.diffusers_reference import Pipeline
from modelbuild.errors import ExportError
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.tasks import Task

_ATTENTION = ("Attention", "CLIPAttention")
# From so many rows on, upsampling puts them into one piece of memory first (diffusers' issue 984, a kernel of CUDA's).
_CONTIGUOUS_FROM = 64
_BATCH = Axis(name="batch", kind="batch")
# Inputs of U-Nets that others than the Stable Diffusion of today's task have: SDXL, classes, images, guidance.
_MORE_INPUTS = (
    "addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim",
)  # fmt: skip


class TextEncoder(Named):
    """CLIP's text model."""

    def forward(self, inputs: Tensors) -> Tensors:
        """The hidden states that the U-Net attends to, and the one of the end of the text."""
        return pick(self.model(**inputs, return_dict=True), ("last_hidden_state", "pooler_output"), self.model)


class Unet(Named):
    """A U-Net that tells what is noise in a sample."""

    def forward(self, inputs: Tensors) -> Tensors:
        """The prediction, of the sample's size."""
        return {"out_sample": self.model(**inputs, return_dict=False)[0]}


class VaeEncoder(Named):
    """The encoder of an autoencoder."""

    def forward(self, inputs: Tensors) -> Tensors:
        """The parameters of the distribution of latents: the mean, and the logarithm of the variance after it."""
        return {"latent_parameters": self.model.encode(inputs["sample"]).latent_dist.parameters}


class VaeDecoder(Named):
    """The decoder of an autoencoder."""

    def forward(self, inputs: Tensors) -> Tensors:
        """The image, in numbers from about -1 to 1."""
        return {"sample": self.model.decode(inputs["latent_sample"], return_dict=False)[0]}


def components(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """Four graphs: `text_encoder`, `unet`, `vae_encoder` and `vae_decoder`, each in a folder of its own."""
    if not isinstance(model, Pipeline):
        raise ExportError(f"{type(model).__name__} is no pipeline", where=task.name, hint="choose another task")
    _require_known_inputs(model.unet.config)
    parts: tuple[tuple[str, type[Named], Any, Any, Interface], ...] = (
        ("text_encoder", TextEncoder, model.text_encoder, model.text_encoder, _text(model)),
        ("unet", Unet, model.unet, model.unet, _unet(model)),
        ("vae_encoder", VaeEncoder, model.vae, model.vae.encoder, _vae_encoder(model)),
        ("vae_decoder", VaeDecoder, model.vae, model.vae.decoder, _vae_decoder(model)),
    )
    return tuple(
        Component(
            name=name,
            file=f"{name}/model.onnx",
            module=named(module).eval(),
            interface=interface,
            attention_layers=sum(type(inner).__name__ in _ATTENTION for inner in part.modules()),
            branches={"batch": _CONTIGUOUS_FROM} if any(map(_upsamples, part.modules())) else {},
        )
        for name, named, module, part, interface in parts
    )


def _upsamples(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "Upsample2D"


def _require_known_inputs(config: Any) -> None:
    found = [key for key in _MORE_INPUTS if config.get(key) is not None]
    if found:
        raise ExportError(
            f"a U-Net with {', '.join(found)} takes more inputs than sample, timestep and encoder_hidden_states",
            where="unet/config.json",
            hint="choose the pipeline of a Stable Diffusion 1 or 2",
        )


def _text(model: Pipeline) -> Interface:
    config = model.text_encoder.config
    ids = Input(
        name="input_ids", dtype="int64", shape=("batch", "sequence"), content="token_ids", below=config.vocab_size
    )
    return Interface(
        inputs=(ids,),
        outputs=(
            Output(name="last_hidden_state", shape=("batch", "sequence"), meaning="embeddings"),
            Output(name="pooler_output", shape=("batch",), meaning="embeddings"),
        ),
        axes=(_BATCH, Axis(name="sequence", kind="length", largest=config.max_position_embeddings)),
    )


def _unet(model: Pipeline) -> Interface:
    config, step = model.unet.config, 2**model.unet.num_upsamplers
    height, width = model.native_latent()
    hidden = ("batch", "sequence", config.cross_attention_dim)
    return Interface(
        inputs=(
            Input(name="sample", dtype="float32", shape=("batch", config.in_channels, "height", "width")),
            # A number, for some schedulers have steps between the whole ones.
            Input(name="timestep", dtype="float32", shape=(), content="indices", below=model.timesteps()),
            Input(name="encoder_hidden_states", dtype="float32", shape=hidden),
        ),
        outputs=(Output(name="out_sample", shape=("batch", config.out_channels, "height", "width")),),
        axes=(
            _BATCH,
            Axis(name="height", kind="extent", smallest=step, step=step, native=height),
            Axis(name="width", kind="extent", smallest=step, step=step, native=width),
            Axis(name="sequence", kind="length"),
        ),
    )


def _vae_encoder(model: Pipeline) -> Interface:
    config, step = model.vae.config, model.pixels_per_latent()
    height, width = model.native_latent()
    latent = ("batch", 2 * config.latent_channels, "latent_height", "latent_width")
    return Interface(
        inputs=(
            Input(name="sample", dtype="float32", shape=("batch", config.in_channels, "sample_height", "sample_width")),
        ),
        outputs=(Output(name="latent_parameters", shape=latent),),
        axes=(
            _BATCH,
            Axis(name="sample_height", kind="extent", smallest=step, step=step, native=height * step),
            Axis(name="sample_width", kind="extent", smallest=step, step=step, native=width * step),
            Axis(name="latent_height", kind="derived"),
            Axis(name="latent_width", kind="derived"),
        ),
    )


def _vae_decoder(model: Pipeline) -> Interface:
    config = model.vae.config
    height, width = model.native_latent()
    latent = ("batch", config.latent_channels, "latent_height", "latent_width")
    return Interface(
        inputs=(Input(name="latent_sample", dtype="float32", shape=latent),),
        outputs=(Output(name="sample", shape=("batch", config.out_channels, "sample_height", "sample_width")),),
        axes=(
            _BATCH,
            Axis(name="latent_height", kind="extent", native=height),
            Axis(name="latent_width", kind="extent", native=width),
            Axis(name="sample_height", kind="derived"),
            Axis(name="sample_width", kind="derived"),
        ),
    )
