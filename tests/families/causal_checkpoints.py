"""Checkpoints of tiny decoders with seeded weights that make texts of many tokens, and a tokenizer without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_tokenizers import save_bpe

POSITIONS, END = 64, 59
_SPREAD = 0.3
_TOKENS: dict[str, Any] = {"vocab_size": 64, "bos_token_id": END, "eos_token_id": END, "initializer_range": _SPREAD}
_GROUPED: dict[str, Any] = _TOKENS | {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": POSITIONS,
}  # fmt: skip
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _TOKENS | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}),
    "llama": ("LlamaConfig", _GROUPED),
    "qwen2": ("Qwen2Config", _GROUPED),
}


def save_decoder(folder: Path, name: str = "gpt2", *, tokenizer: bool = True, **settings: Any) -> torch.nn.Module:
    """Save the decoder of that name and its tokenizer into `folder`, which is made; gives the decoder."""
    class_name, config = CONFIGS[name]
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(
            getattr(transformers, class_name)(**(config | settings))
        ).eval()
    model.save_pretrained(folder)
    if tokenizer:
        save_bpe(folder)
    return model
