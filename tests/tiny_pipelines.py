"""A Stable Diffusion of a few layers, as diffusers saves it, with a tokenizer of letters and a few merges."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

_MERGES = [("t", "h"), ("th", "e</w>"), ("a", "r"), ("o", "u"), ("c", "a")]
WIDTH = 32


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with every byte and five merges, whose files are in `folder`."""
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _MERGES)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in _MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def tiny_pipeline(scratch: Path, **unet: Any) -> StableDiffusionPipeline:
    """The pipeline, in eval mode, whose images are 16 by 16 unless told otherwise. `unet` changes its U-Net."""
    tokenizer = clip_tokenizer(scratch)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=77, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
        )  # fmt: skip
        shape: dict[str, Any] = {
            "sample_size": 8, "block_out_channels": (32, 32), "layers_per_block": 1, "attention_head_dim": 4,
            "cross_attention_dim": WIDTH, "norm_num_groups": 8,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
        }  # fmt: skip
        vae = AutoencoderKL(
            sample_size=16, block_out_channels=(16, 32), latent_channels=4, norm_num_groups=8,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        made = StableDiffusionPipeline(
            text_encoder=CLIPTextModel(text), unet=UNet2DConditionModel(**shape | unet), vae=vae, tokenizer=tokenizer,
            scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made
