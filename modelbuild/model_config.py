"""The `config.json` of a model folder: read, and refused when it asks for code, files or weights from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelbuild.errors import ExportError
from modelbuild.model_files import ADAPTER_FILE, CONFIG_FILE, SETTINGS_FILES, TOKENIZER_CONFIG
from modelbuild.suggest import did_you_mean

_DTYPES = (
    "bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "half", "float", "double",
)  # fmt: skip
_NEVER_READ = ("special_tokens_map_file", "added_tokens_file")


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder, checked with the other settings beside it. It loads no library.

    Raises ExportError when it is missing, not JSON, names no model type, or describes what cannot be built honestly:
    code from elsewhere, an adapter, quantized weights, a type of numbers that there is not.
    """
    path = folder / CONFIG_FILE
    refuse_adapter(folder)
    if not path.is_file():
        raise ExportError("no config.json", where=str(folder), hint="give a Hugging Face model folder")
    config = read_json(path)
    if not isinstance(config, dict) or not config.get("model_type"):
        raise ExportError(
            'config.json has no "model_type"', where=str(path), hint="add it; it is not guessed from the folder's name"
        )
    refuse_remote_code(config, path)
    refuse_other_weights(config, path)
    _require_types(config, path)
    for beside in (folder / name for name in SETTINGS_FILES if (folder / name).is_file()):
        settings = read_json(beside)
        refuse_remote_code(settings, beside)
        if beside.name == TOKENIZER_CONFIG:
            refuse_other_vocabulary(settings, beside)
    return config


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`. Raises ExportError when there is another thing there."""
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise ExportError(f"{path.name} is not a JSON object", where=str(path), hint="fetch the model again")
    return settings


def read_json(path: Path) -> Any:
    """What is in the JSON file `path`. Raises ExportError when it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ExportError(f"{path.name} is nested too deeply", where=str(path)) from error
    except ValueError as error:
        raise ExportError(
            f"{path.name} is not valid JSON: {error}", where=str(path), hint="correct it, or fetch the model again"
        ) from error


def _mappings(settings: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in settings that were read from JSON, at any depth."""
    queue = [settings]
    while queue:
        item = queue.pop()
        if isinstance(item, list):
            queue += item
        elif isinstance(item, dict):
            queue += item.values()
            yield item


def refuse_remote_code(settings: Any, path: Path) -> None:
    """Raise ExportError when settings read from `path`, at any depth, would make transformers fetch or run code.

    `_attn_implementation*` with a repository's name does so even with `trust_remote_code=False` (CVE-2026-4372).
    """
    for item in _mappings(settings):
        for key, value in item.items():
            kernel = "attn_implementation" in key and "/" in json.dumps(value)
            if kernel or key in ("auto_map", "trust_remote_code"):
                raise ExportError(
                    f"{path.name} sets '{key}', which makes transformers run code from elsewhere",
                    where=str(path),
                    hint="refused; remove the key if the model works without it",
                )


def refuse_adapter(folder: Path) -> None:
    """Raise ExportError for the folder of an adapter, whose weights would be put onto those of another model."""
    if (folder / ADAPTER_FILE).exists():
        raise ExportError(
            f"{ADAPTER_FILE} makes this a PEFT adapter", where=str(folder), hint="merge it into its base model first"
        )


def refuse_other_weights(config: Any, path: Path) -> None:
    """Raise ExportError for weights that are packed by a quantizer, at any depth of the config read from `path`, or in
    a file that transformers takes instead of those we have checked.
    """
    for item in _mappings(config):
        quantization = item.get("quantization_config")
        if quantization is not None:
            method = quantization.get("quant_method") if isinstance(quantization, dict) else None
            raise ExportError(
                f"quantized weights ({method or 'of an unknown method'}) cannot be exported",
                where=str(path),
                hint="give the original weights, which the quantized ones were made from",
            )
        if item.get("transformers_weights") is not None:
            raise ExportError(
                f"{path.name} sets 'transformers_weights', which takes the weights from another file",
                where=str(path),
                hint="remove the key, and name the file model.safetensors",
            )


def refuse_other_vocabulary(settings: Any, path: Path) -> None:
    """Raise ExportError for a vocabulary that transformers would take from a file that is named, and not from the one
    beside it.
    """
    if not isinstance(settings, dict):
        raise ExportError(f"{path.name} is not a JSON object", where=str(path), hint="fetch the model again")
    whole = (path.parent / "tokenizer.json").exists()
    for key, value in settings.items():
        # With tokenizer.json the parts of a vocabulary are not read; the two others never are.
        read = key == "tokenizer_file" if whole else key.endswith("_file") and key not in _NEVER_READ
        if read and value is not None:
            raise ExportError(
                f"{path.name} sets '{key}', which takes the vocabulary from another file",
                where=str(path),
                hint="remove the key: what is beside it is found without",
            )


def _require_types(config: Mapping[str, Any], path: Path) -> None:
    """What transformers would stumble over without saying where, or take for something else."""
    architectures = config.get("architectures")
    if not isinstance(config["model_type"], str):
        raise ExportError(f"model_type is {config['model_type']!r}, and must be a text", where=str(path))
    named = architectures is None or isinstance(architectures, list)
    if not named or not all(isinstance(name, str) for name in architectures or ()):
        raise ExportError(f"architectures is {architectures!r}, and must be a list of class names", where=str(path))
    for key in ("dtype", "torch_dtype"):
        dtype = config.get(key)
        if dtype is not None and dtype not in _DTYPES:
            raise ExportError(
                f"unknown {key} {json.dumps(dtype)}", where=str(path), hint=did_you_mean(str(dtype), _DTYPES)
            )
    labels = config.get("id2label")
    wrong = [key for key in labels if not key.isdecimal()] if isinstance(labels, dict) else []
    if wrong or not isinstance(labels, dict | None):
        raise ExportError(
            f"id2label must map integers to labels, got {json.dumps(wrong[0] if wrong else labels)}", where=str(path)
        )
