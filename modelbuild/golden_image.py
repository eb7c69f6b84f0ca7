"""`golden_image.json`: what the original's image processor makes of some images, so that any copy can be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelbuild.digest import write_json
from modelbuild.errors import PackageError
from modelbuild.image_processor import Pixels, to_pixels

FORMAT = 1
FILE_NAME = "golden_image.json"

# Width and height: square and not, small enough to be enlarged and large enough to be reduced, odd.
_SIZES = ((64, 64), (97, 41), (31, 75), (640, 480))


@dataclass(frozen=True, kw_only=True)
class Processed:
    """An image by its name, and what became of it: its shape, the mean and the extremes of its values, and the sha256
    of all of them as float32.
    """

    image: str
    shape: tuple[int, ...]
    mean: float
    least: float
    most: float
    sha256: str


def golden_images() -> dict[str, Image.Image]:
    """The images by name: smooth ones with noise, drawn by a fixed seed, in colour, and one that is all black."""
    rng = np.random.default_rng(0)
    found = {}
    for width, height in _SIZES:
        across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        smooth = np.stack([across, down, (across + down) / 2], axis=-1) * 200
        pixels = smooth + rng.integers(0, 56, smooth.shape)
        found[f"seeded {width}x{height}"] = Image.fromarray(pixels.astype(np.uint8), "RGB")
    return found | {"black 50x50": Image.new("RGB", (50, 50))}


def golden_image(folder: Path) -> tuple[Processed, ...]:
    """What the image processor in `folder` makes of the images. Raises ExportError when it cannot be read or used."""
    images = golden_images()
    pixels = to_pixels(folder, tuple(images.values()))
    return tuple(_processed(name, array) for name, array in zip(images, pixels, strict=True))


def _processed(name: str, pixels: Pixels) -> Processed:
    values = np.ascontiguousarray(pixels, dtype=np.float32)
    return Processed(
        image=name,
        shape=values.shape,
        mean=round(float(values.mean()), 6),
        least=round(float(values.min()), 6),
        most=round(float(values.max()), 6),
        sha256=hashlib.sha256(values.tobytes()).hexdigest(),
    )


def write_golden_image(golden: tuple[Processed, ...], folder: Path) -> None:
    """Write `golden_image.json` into `folder`."""
    write_json(folder / FILE_NAME, {"format": FORMAT, "images": [vars(processed) for processed in golden]})


def read_golden_image(folder: Path) -> tuple[Processed, ...]:
    """The golden images in `folder`. Raises PackageError when there are none, or the file is damaged or of a newer
    format.
    """
    try:
        data: Any = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        if data["format"] > FORMAT:
            newer = f"{FILE_NAME} has format {data['format']}, which is newer than {FORMAT}"
            raise PackageError(newer, where=str(folder), hint="upgrade modelbuild")
        return tuple(Processed(**item | {"shape": tuple(item["shape"])}) for item in data["images"])
    except FileNotFoundError as error:
        raise PackageError(f"{FILE_NAME} is missing", where=str(folder), hint="build it again") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"{FILE_NAME} is damaged: {error!r}", where=str(folder), hint="build it again") from error
