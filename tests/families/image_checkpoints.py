"""Checkpoints of tiny image models, with the processors that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from PIL import Image
from tiny_tokenizers import save_wordpiece

Name = Literal["vit", "resnet", "clip"]
LABELS = ("pear", "plum", "quince", "fig", "sloe")
SIZE = 32

_ENCODER: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
}  # fmt: skip
_IMAGES: dict[str, Any] = _ENCODER | {"image_size": SIZE, "patch_size": 8}


def config_of(name: Name, **settings: Any) -> Any:
    """The config of a tiny model."""
    named: dict[str, Any] = {"id2label": dict(enumerate(LABELS)), "label2id": {x: i for i, x in enumerate(LABELS)}}
    match name:
        case "vit":
            return transformers.ViTConfig(**_IMAGES | named | settings)
        case "resnet":
            sizes: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2]}
            return transformers.ResNetConfig(**sizes | named | {"layer_type": "basic"} | settings)
        case "clip":
            # The tokens are those of the tokenizer beside it, [CLS] and [SEP].
            text = _ENCODER | {"vocab_size": 64, "max_position_embeddings": 24, "bos_token_id": 2, "eos_token_id": 3}
            return transformers.CLIPConfig(text_config=text, vision_config=_IMAGES, projection_dim=16, **settings)


def model_of(name: Name, head: str, **settings: Any) -> torch.nn.Module:
    """The model with seeded weights, and with statistics where it has any, as if it had been trained."""
    architecture = {"vit": "ViT", "resnet": "ResNet", "clip": "CLIP"}[name] + head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: torch.nn.Module = getattr(transformers, architecture)(config_of(name, **settings)).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.data.uniform_(0.5, 2.0)
                for tensor in (module.bias, module.running_mean):
                    tensor.data.normal_()
    return model


def save_checkpoint(folder: Path, name: Name, head: str = "ForImageClassification", **settings: Any) -> torch.nn.Module:
    """Save the model, its image processor, and the tokenizer of one that takes texts, into `folder`; give the model."""
    model = model_of(name, head, **settings)
    model.save_pretrained(folder)
    save_processor(folder, name)
    if name == "clip":
        save_wordpiece(folder, model_input_names=["input_ids", "attention_mask"])
    return model


def save_processor(folder: Path, name: Name, **settings: Any) -> None:
    """Save the image processor into `folder`."""
    match name:
        case "vit":
            processor = transformers.ViTImageProcessor(**{"size": {"height": SIZE, "width": SIZE}} | settings)
        case "resnet":
            processor = transformers.ConvNextImageProcessor(**{"size": {"shortest_edge": 61}} | settings)
        case "clip":
            sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
            processor = transformers.CLIPImageProcessor(**sizes | settings)
    processor.save_pretrained(folder)


def picture(seed: int, width: int = 57, height: int = 44) -> Image.Image:
    """A picture of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8), "RGB")
