"""The image processor in a model's folder: open it as it is, and make inputs of images. A door to transformers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers
from PIL import Image

from modelbuild.errors import ExportError, first_line
from modelbuild.model_files import PREPROCESSOR_CONFIG

Pixels = npt.NDArray[Any]


def open_image_processor(folder: Path) -> Any:
    """The image processor in `folder`, as transformers opens it, the one that computes with Pillow and NumPy.

    Raises ExportError, which says so if the file is not JSON, when it cannot be read.
    """
    try:
        with warnings.catch_warnings():  # of keys that a processor does not know, which no key of ours is
            warnings.simplefilter("ignore")
            return transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=False
            )
    except Exception as error:
        what = _not_json(folder / PREPROCESSOR_CONFIG) or first_line(error)
        hint = "correct it, fetch the model again, or set sidecar=off"
        raise ExportError(f"the image processor cannot be read: {what}", where=str(folder), hint=hint) from error


def _not_json(path: Path) -> str:
    if not path.is_file():
        return f"{path.name} is missing"
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        return f"{path.name}: {error}"
    return ""


def to_pixels(folder: Path, images: Sequence[Image.Image]) -> tuple[Pixels, ...]:
    """What the processor in `folder` makes of each image alone: `(channels, height, width)`.

    Raises ExportError when it cannot be read or used.
    """
    processor = open_image_processor(folder)
    try:
        return tuple(np.asarray(processor(images=image, return_tensors="np")["pixel_values"])[0] for image in images)
    except Exception as error:
        hint = "correct preprocessor_config.json, or set sidecar=off"
        what = f"the image processor cannot be used: {first_line(error)}"
        raise ExportError(what, where=str(folder), hint=hint) from error
