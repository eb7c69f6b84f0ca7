"""A diffusers folder: `model_index.json` and a folder for each part, checked before anything is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild.errors import ExportError
from modelbuild.model_config import (
    read_settings,
    refuse_adapter,
    refuse_other_vocabulary,
    refuse_other_weights,
    refuse_remote_code,
)
from modelbuild.model_files import (
    CONFIG_FILE,
    DIFFUSERS_WEIGHTS,
    MODEL_INDEX,
    SCHEDULER_CONFIG,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    TRANSFORMERS_WEIGHTS,
)
from modelbuild.weight_files import require_file, weight_files

PIPELINES = ("StableDiffusionPipeline",)
# Each part that has weights: the library and the class that it must be of.
MODELS = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
# What else `model_index.json` may name: the libraries, and how the classes are called.
_OTHERS = {
    "tokenizer": (("transformers",), r"CLIPTokenizer(Fast)?"),
    "scheduler": (("diffusers",), r"[A-Z]\w*Scheduler"),
    # Not used by the graphs: it judges or prepares images, and the package goes without.
    "feature_extractor": (("transformers",), r"CLIP(ImageProcessor|FeatureExtractor)"),
    "safety_checker": (("stable_diffusion", "diffusers"), r"StableDiffusionSafetyChecker"),
}
# Parts of other pipelines, which must not be there.
_ABSENT = ("image_encoder",)
LEFT_OUT = ("feature_extractor", "safety_checker", "image_encoder")
_NOTHING = ([None, None], None)


def is_pipeline(folder: Path) -> bool:
    """Whether `folder` is a pipeline of diffusers."""
    return (folder / MODEL_INDEX).is_file() and not (folder / CONFIG_FILE).exists()


def read_model_index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` in `folder`, checked with the settings of the parts that it names. It loads no library.

    Raises ExportError when it is of another pipeline, names classes that are not known here, which would be code from
    elsewhere, or lacks a part.
    """
    path = folder / MODEL_INDEX
    if not path.is_file():
        raise ExportError(
            f"no {MODEL_INDEX}", where=str(folder), hint="give a folder that diffusers saved a pipeline to"
        )
    index = read_settings(path)
    refuse_remote_code(index, path)
    refuse_other_weights(index, path)
    _require_known(index, path)
    for name, (library, kind) in MODELS.items():
        refuse_adapter(folder / name)
        config = _settings(folder / name / CONFIG_FILE)
        refuse_other_weights(config, folder / name / CONFIG_FILE)
        said = (
            config.get("_class_name") if library == "diffusers" else next(iter(config.get("architectures") or ()), kind)
        )
        if said != kind:
            raise _other_class(folder / name / CONFIG_FILE, said, kind)
    scheduler = _settings(folder / "scheduler" / SCHEDULER_CONFIG)
    said = scheduler.get("_class_name", index["scheduler"][1])
    if said != index["scheduler"][1]:
        raise _other_class(folder / "scheduler" / SCHEDULER_CONFIG, said, index["scheduler"][1])
    for file in _tokenizer_files(folder):
        if file == TOKENIZER_CONFIG:
            settings = _settings(folder / "tokenizer" / file)
            refuse_other_vocabulary(settings, folder / "tokenizer" / file)
    return dict(index)


def pipeline_config(folder: Path) -> dict[str, Any]:
    """The checked `model_index.json` in `folder`, which says as a `config.json` does which class it is of."""
    index = read_model_index(folder)
    return index | {"architectures": [index["_class_name"]]}


def pipeline_files(folder: Path, *, allow_pickle: bool) -> list[str]:
    """The files of the pipeline in `folder` that matter, each checked. Raises ExportError as `weight_files` does."""
    found = [MODEL_INDEX]
    for name, (library, _) in MODELS.items():
        names = TRANSFORMERS_WEIGHTS if library == "transformers" else DIFFUSERS_WEIGHTS
        files = weight_files(folder / name, allow_pickle=allow_pickle, names=names)
        found += [f"{name}/{file}" for file in (CONFIG_FILE, *files)]
    found += [f"tokenizer/{file}" for file in _tokenizer_files(folder)]
    found.append(f"scheduler/{SCHEDULER_CONFIG}")
    for name in found:
        require_file(folder / name)
    return found


def _tokenizer_files(folder: Path) -> list[str]:
    return [name for name in TOKENIZER_FILES if (folder / "tokenizer" / name).exists()]


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ExportError(
            f"{path.parent.name}/{path.name} is missing, which {MODEL_INDEX} names",
            where=str(path.parent.parent),
            hint="fetch the model again",
        )
    settings = read_settings(path)
    refuse_remote_code(settings, path)
    return settings


def _require_known(index: Mapping[str, Any], path: Path) -> None:
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        raise ExportError(
            f"a {kind if isinstance(kind, str) else json.dumps(kind)} cannot be built",
            where=f"{path} _class_name",
            hint=f"choose a {' or '.join(PIPELINES)}",
        )
    for name in (*MODELS, "scheduler"):
        if index.get(name) in _NOTHING:
            raise ExportError(f"no {name}", where=str(path), hint="give a whole pipeline")
    for name, value in index.items():
        if not name.startswith("_") and value not in _NOTHING and not isinstance(value, bool):
            _require_class(name, value, path)


def _require_class(name: str, value: Any, path: Path) -> None:
    known = {part: ((library,), kind) for part, (library, kind) in MODELS.items()} | _OTHERS
    named = isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)
    if name in known and named and value[0] in known[name][0] and re.fullmatch(known[name][1], value[1]):
        return
    expected = f"expected {'|'.join(known[name][0])} {known[name][1]}" if name in known else "no such part is known"
    raise ExportError(
        f"{name} is {'.'.join(value) if named else json.dumps(value)}, which may be code from elsewhere",
        where=str(path),
        hint=f"refused; {expected}",
    )


def _other_class(path: Path, said: object, expected: str) -> ExportError:
    return ExportError(
        f"{path.parent.name}/{path.name} is of a {said}, and {MODEL_INDEX} names a {expected}",
        where=str(path),
        hint="correct it, or fetch the model again",
    )
