"""Images in, alone or with texts, one pass, one graph: classifiers, encoders, and models of images and texts."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from modelbuild.component import Component, OneCall
from modelbuild.errors import ExportError
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.tasks import Task
from modelbuild.text_limits import limits_of

_PIXELS, _TEXT = "pixel_values", "input_ids"
# Networks of padded convolutions and averages, which take an image of any size. Others that do in PyTorch have branches
# on it (MobileNet) or a smallest one (ConvNeXt), and are built for the size that their config has.
_ANY_SIZE = frozenset({"regnet", "resnet"})
# What networks were trained with where their config does not say.
_USUAL_SIZE = 224
# Before transformers 4.31 a CLIP had this end token in its config, and takes the largest id of a text for its end.
_END_UNKNOWN = 2


def components(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """One graph, `model.onnx`.

    Height and width of its images are free for networks of convolutions (ResNet). They are fixed for those that have
    learned a position for each patch (ViT): PyTorch refuses any other size, unless `interpolate_pos_encoding` makes
    positions up, which is a setting of a call and none of the model's.
    """
    config: Any = model.config
    accepted = inspect.signature(model.forward).parameters
    if any(name not in accepted for name in task.inputs):
        raise ExportError(
            f"{type(model).__name__} takes {', '.join(list(accepted)[:3])} and not {' and '.join(task.inputs)}",
            where=task.name,
            hint=f"choose a model of images{' and texts' if _TEXT in task.inputs else ''}, or another task",
        )
    return (
        Component(
            name="model",
            file="model.onnx",
            module=OneCall(model, task.output_names()).eval(),
            interface=_with_texts(config, task) if _TEXT in task.inputs else _images(config, task),
            attention_layers=sum(_layers(part) for part in _parts(config)),
            unused_weights=task.unused_weights,
        ),
    )


def _images(config: Any, task: Task) -> Interface:
    image = _image(config, "batch")
    sizes = tuple(axis for axis in image.shape[2:] if isinstance(axis, str))
    axes = [Axis(name=name, kind="extent", native=_native(config)) for name in sizes]
    outputs = task.outputs
    if sizes and task.name == "image-feature-extraction":
        # A map, smaller than the image by a factor that is the network's own.
        axes += [Axis(name=f"feature_{name}", kind="derived") for name in sizes]
        shape: tuple[int | str, ...] = ("batch", _channels_of_map(config), *(f"feature_{name}" for name in sizes))
        outputs = (Output(name=task.outputs[0].name, shape=shape),)
    return Interface(inputs=(image,), outputs=outputs, axes=(Axis(name="batch", kind="batch"), *axes))


def _with_texts(config: Any, task: Task) -> Interface:
    """Images and texts, of which there may be as many as one likes of each."""
    limits, end = limits_of(config), config.text_config.eos_token_id
    last = limits.vocab_size - 1 if end in (None, _END_UNKNOWN) else int(end)
    text = ("text_batch", "sequence")
    return Interface(
        inputs=(
            Input(name=_TEXT, dtype="int64", shape=text, content="token_ids", below=limits.vocab_size, ends=last),
            _image(config.vision_config, "image_batch"),
            Input(name="attention_mask", dtype="int64", shape=text, content="attention_mask"),
        ),
        outputs=task.outputs,
        axes=(
            Axis(name="image_batch", kind="batch"),
            Axis(name="text_batch", kind="batch"),
            Axis(name="sequence", kind="length", largest=limits.max_positions),
        ),
    )


def _image(config: Any, batch: str) -> Input:
    size = getattr(config, "image_size", None) or _USUAL_SIZE
    fixed = tuple(size) if isinstance(size, list | tuple) else (size, size)
    shape = ("height", "width") if config.model_type in _ANY_SIZE else fixed
    return Input(name=_PIXELS, dtype="float32", shape=(batch, int(getattr(config, "num_channels", 3)), *shape))


def _native(config: Any) -> int:
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) else _USUAL_SIZE


def _channels_of_map(config: Any) -> int:
    """The channels that a network of convolutions ends with."""
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else config.hidden_size)


def _parts(config: Any) -> tuple[Any, ...]:
    """The configs of the encoders that a model is made of."""
    found = [getattr(config, name, None) for name in ("text_config", "vision_config")]
    return tuple(part for part in found if part is not None) or (config,)


def _layers(config: Any) -> int:
    """How many layers with attention there are; none in a network of convolutions."""
    if getattr(config, "num_attention_heads", None) is None:
        return 0
    depths = getattr(config, "depths", None)
    return sum(depths) if depths is not None else int(config.num_hidden_layers)
