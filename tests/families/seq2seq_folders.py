"""Checkpoints of encoder-decoder models with seeded weights, and with what makes inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?"
_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
LANGUAGES = ("<|en|>", "<|de|>")
SAMPLING_RATE, MELS, POSITIONS = 16000, 8, 50


def save_t5(folder: Path, **changes: Any) -> torch.nn.Module:
    """A T5 with a Unigram tokenizer."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    tokenizer = _unigram()
    config = transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes | changes)
    tokenizer.save_pretrained(folder)
    return _save(transformers.T5ForConditionalGeneration, config, folder)


def save_bart(folder: Path, **changes: Any) -> torch.nn.Module:
    """A BART with a BPE tokenizer, whose weights are large enough for it to say different things."""
    tokenizer = _byte_pairs()
    config = transformers.BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, init_std=0.3, forced_eos_token_id=None,
        num_beams=1, **_SIZES | changes,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return _save(transformers.BartForConditionalGeneration, config, folder)


def save_whisper(folder: Path, **changes: Any) -> torch.nn.Module:
    """A Whisper of two languages, for speech of a second."""
    tokenizer = _speech_tokens(folder)
    known = tokenizer.convert_tokens_to_ids
    end, start = known("<|endoftext|>"), known("<|startoftranscript|>")
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=MELS, max_source_positions=POSITIONS, max_target_positions=64,
        init_std=0.3, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
        suppress_tokens=None, begin_suppress_tokens=None, **_SIZES | changes,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(
        feature_size=MELS, sampling_rate=SAMPLING_RATE, chunk_length=1, n_fft=400, hop_length=160
    ).save_pretrained(folder)
    model = _save(transformers.WhisperForConditionalGeneration, config, folder)
    generation = transformers.GenerationConfig(
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        is_multilingual=True, lang_to_id={name: known(name) for name in LANGUAGES},
        task_to_id={"transcribe": known("<|transcribe|>"), "translate": known("<|translate|>")},
        no_timestamps_token_id=known("<|notimestamps|>"), suppress_tokens=[3, 5, 8],
        begin_suppress_tokens=[known("Ġ"), end], max_length=64, return_timestamps=False,
    )  # fmt: skip
    generation.save_pretrained(folder)
    model.generation_config = generation
    return model


def waveform(seconds: float = 0.9) -> npt.NDArray[np.float32]:
    """Noise and a tone, the same each time."""
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * noise).astype(np.float32)


_SIZES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip


def _save(architecture: Any, config: Any, folder: Path) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: torch.nn.Module = architecture(config).eval()
    model.save_pretrained(folder)
    return model


def _unigram() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -2.0), ("ing", -3.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((letter, -5.0) for letter in _LETTERS)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0)


def _byte_pairs() -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = _bpe([*special, *_BYTES])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return transformers.BartTokenizerFast(tokenizer_object=tokenizer)


def _bpe(tokens: list[str]) -> Tokenizer:
    merges = [("t", "h"), ("th", "e")]
    vocabulary = [*tokens, *map("".join, merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(vocabulary)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _speech_tokens(folder: Path) -> Any:
    end = "<|endoftext|>"
    bpe = _bpe([*_BYTES, end])
    bpe.model.save(str(folder))
    tokenizer = transformers.WhisperTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end, unk_token=end)
    names = [
        "<|startoftranscript|>", *LANGUAGES, "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
        "<|nospeech|>", "<|notimestamps|>",
    ]  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(name, special=True) for name in names]})
    tokenizer.add_tokens([AddedToken(f"<|{step * 0.02:.2f}|>") for step in range(POSITIONS + 1)])
    return tokenizer
