"""Models with seeded random weights, in Hugging Face folders, written without holding more than one shard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_SHARD_BYTES = 256 << 20
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model: an architecture of transformers and the config that makes its size, the task it is built for, and the
    graph of it that is measured. `shapes` are the batches: rows and positions, or rows alone for images.
    """

    name: str
    title: str
    architecture: str
    model_type: str
    task: str
    config: Mapping[str, Any] = field(default_factory=dict)
    graph: str = "model"
    shapes: tuple[tuple[int, ...], ...] = ((1, 16), (1, 128), (4, 128))


CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint(
            name="bert-base", title="BERT-base", architecture="BertModel", model_type="bert", task="feature-extraction"
        ),
        Checkpoint(
            name="distilbert",
            title="DistilBERT",
            architecture="DistilBertModel",
            model_type="distilbert",
            task="feature-extraction",
        ),
        Checkpoint(
            name="vit-base",
            title="ViT-base",
            architecture="ViTModel",
            model_type="vit",
            task="image-feature-extraction",
            shapes=((1,), (4,)),
        ),
        Checkpoint(
            name="t5-small",
            title="T5-small's encoder",
            architecture="T5ForConditionalGeneration",
            model_type="t5",
            task="text2text-generation",
            config={"decoder_start_token_id": 0},
            graph="encoder_model",
        ),
    )
}


def bert_of(width: int) -> Checkpoint:
    """A BERT of 12 layers whose weights grow with the square of `width`, and its graph does not."""
    return Checkpoint(
        name=f"bert-{width}",
        title=f"BERT, 12 layers of {width}",
        architecture="BertModel",
        model_type="bert",
        task="feature-extraction",
        config={"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width},
    )


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> int:
    """Make `folder` a Hugging Face folder of `checkpoint`, unless it is one, and give the bytes of its weights.

    The index is written last, so that a folder without it is one that was not finished.
    """
    index = folder / _INDEX
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shapes = _shapes(checkpoint, folder)
        index.write_text(json.dumps(_write_shards(shapes, folder), indent=2), encoding="utf-8")
    return int(json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"])


def _shapes(checkpoint: Checkpoint, folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters by name, shared ones once; the config goes into `folder`."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(checkpoint.model_type, **checkpoint.config)
    config.architectures = [checkpoint.architecture]
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = getattr(transformers, checkpoint.architecture)(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _write_shards(shapes: Mapping[str, tuple[int, ...]], folder: Path) -> dict[str, Any]:
    """Write the weights, shard by shard, and give the index."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    shards = list(into_shards(shapes))
    where: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: values(name, shapes[name], rng) for name in names}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(names, file)
    total = sum(4 * math.prod(shape) for shape in shapes.values())
    return {"metadata": {"total_size": total}, "weight_map": where}


def into_shards(shapes: Mapping[str, tuple[int, ...]], limit: int = _SHARD_BYTES) -> Iterator[list[str]]:
    """The names in order, in shards of at most `limit` bytes of fp32; a tensor that is larger has one of its own."""
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        more = 4 * math.prod(shape)
        if names and size + more > limit:
            yield names
            names, size = [], 0
        names.append(name)
        size += more
    if names:
        yield names


def values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Random values as an untrained model has them: scales of normalizations near one, everything else near zero."""
    drawn = rng.standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(0.02)
    if len(shape) == 1 and name.endswith("weight"):
        drawn += np.float32(1)
    return drawn
