"""The feature extractor in a model's folder: open it as it is, make spectrograms of sound. A door to transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers

from modelbuild.errors import ExportError, first_line

Floats = npt.NDArray[np.float32]


def spectrogram(folder: Path, seconds: float, seed: int) -> Floats:
    """What the feature extractor in `folder` makes of so many seconds of a tone in noise, `(1, mels, frames)`.

    Raises ExportError when it cannot be read or used.
    """
    try:
        extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        rate = int(extractor.sampling_rate)
        made = extractor(_sound(rate, seconds, seed), sampling_rate=rate, return_tensors="np")
        return np.asarray(made["input_features"], dtype=np.float32)
    except Exception as error:
        hint = "correct preprocessor_config.json, or set sidecar=off"
        what = f"the feature extractor cannot be used: {first_line(error)}"
        raise ExportError(what, where=str(folder), hint=hint) from error


def _sound(rate: int, seconds: float, seed: int) -> Floats:
    time = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * noise).astype(np.float32)
