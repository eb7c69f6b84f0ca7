"""The `config.json` of a user's own module: what its own config says, what was given by hand, what the module shows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from modelbuild.config_fields import dimensions, without_machine
from modelbuild.errors import ExportError
from modelbuild.interface import Interface
from modelbuild.model_config import refuse_remote_code

# The key of config.json that is ours.
OWN_KEY = "modelbuild"
MODEL_TYPE = "custom"
_GIVEN = "model.source.config"
_SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "num_labels", "vocab_size")
_LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModuleConfig:
    """A config as it ships, and which of its fields nobody gave: they are what the module shows."""

    values: dict[str, Any]
    inferred: dict[str, Any]


def config_of(model: torch.nn.Module, given: Mapping[str, Any], interface: Interface) -> ModuleConfig:
    """The config of `model`, whose graph has this interface.

    What is `given` by hand goes over the module's own `config`, and what can be told from the module fills what both
    leave open; all that is so filled is listed in the config itself, under `modelbuild`. Raises ExportError for fields
    that cannot be.
    """
    refuse_remote_code(given, Path(_GIVEN))
    _require_types(given)
    declared = _own(model) | dict(given)
    shown = {"architectures": [type(model).__name__], "model_type": MODEL_TYPE} | dimensions_of(model, interface)
    if "id2label" in declared or "label2id" in declared:
        shown.pop("num_labels", None)
    inferred = {key: value for key, value in shown.items() if key not in declared}
    ours = declared.get(OWN_KEY)
    beside = ours if isinstance(ours, dict) else {}
    values = declared | inferred | {OWN_KEY: beside | {"inferred": sorted(inferred)}}
    return ModuleConfig(values=dict(sorted(values.items())), inferred=inferred)


def dimensions_of(model: torch.nn.Module, interface: Interface) -> dict[str, Any]:
    """The sizes that the module shows beyond doubt; what several of its parts say differently is left out."""
    found = {
        "hidden_size": _hidden_size(model, interface),
        "num_attention_heads": _only(part.num_heads for part in _parts(model, torch.nn.MultiheadAttention)),
        "num_hidden_layers": _layers(model),
        "num_labels": _labels(model, interface),
        "vocab_size": next((table.num_embeddings for table in _token_tables(model, interface)), None),
    }
    return {key: value for key, value in found.items() if value is not None}


def _own(model: torch.nn.Module) -> dict[str, Any]:
    """The module's own `config`, as far as it is one: of transformers, a dict or a dataclass, in JSON values."""
    config: Any = getattr(model, "config", None)
    if callable(getattr(config, "to_diff_dict", None)):  # with the defaults that everyone goes by, and no others
        config = {field.own: field.value for field in dimensions(config)} | config.to_diff_dict()
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        return {}
    kept = {str(key): value for key, value in config.items() if _is_json(value)}
    found: dict[str, Any] = without_machine(json.loads(json.dumps(kept)))
    refuse_remote_code(found, Path(f"{type(model).__name__}.config"))
    # Sizes of its own may be anything, such as one for each of its stages; what says nothing is left open.
    return {key: value for key, value in found.items() if not (key in _SIZES and value is None) and _names(key, value)}


def _names(key: str, value: Any) -> bool:
    """Whether what names the class of a model does; other keys may be anything."""
    if key == "model_type":
        return isinstance(value, str) and bool(value)
    return key != "architectures" or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _require_types(given: Mapping[str, Any]) -> None:
    for key, wanted in (("model_type", "a text"), ("architectures", "a list of class names")):
        if key in given and not _names(key, given[key]):
            raise _refused(key, given[key], wanted)
    for key in (key for key in _SIZES if key in given):
        value = given[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _refused(key, value, "a whole number from 1")


def _refused(key: str, value: Any, wanted: str) -> ExportError:
    return ExportError(f"{key} is {json.dumps(value)}, and must be {wanted}", where=_GIVEN, hint=f"correct {_GIVEN}")


def _parts(model: torch.nn.Module, kind: type) -> list[Any]:
    return [part for part in model.modules() if isinstance(part, kind)]


def _only(values: Any) -> Any:
    """The value that all say, or None where none does or they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _token_tables(model: torch.nn.Module, interface: Interface) -> list[Any]:
    """The embedding that tokens are looked up in, where that is clear: one table, with a row for each of them."""
    ids = interface.content("token_ids")
    tables = _parts(model, torch.nn.Embedding)
    fitting = [table for table in tables if ids is not None and table.num_embeddings == ids.below]
    return fitting if len(fitting) == 1 else []


def _hidden_size(model: torch.nn.Module, interface: Interface) -> int | None:
    attention = [part.embed_dim for part in _parts(model, torch.nn.MultiheadAttention)]
    tables = [table.embedding_dim for table in _token_tables(model, interface)]
    found: int | None = _only(attention or tables)
    return found


def _layers(model: torch.nn.Module) -> int | None:
    """How many layers there are in the only stack of them: torch's own, or a list of modules of one class."""
    stacks = [part.layers for part in _parts(model, torch.nn.TransformerEncoder | torch.nn.TransformerDecoder)]
    lists = [part for part in _parts(model, torch.nn.ModuleList) if _is_stack(part)]
    chosen = stacks or lists
    return len(chosen[0]) if len(chosen) == 1 else None


def _is_stack(parts: torch.nn.ModuleList) -> bool:
    """Whether a list has layers: modules of one class, which have modules inside."""
    return len({type(part) for part in parts}) == 1 and all(any(True for _ in part.children()) for part in parts)


def _labels(model: torch.nn.Module, interface: Interface) -> int | None:
    """How many classes `logits` has, where the last linear layer gives as many, and they are no vocabulary."""
    linear = _parts(model, torch.nn.Linear)
    logits = next((output for output in interface.outputs if output.name == _LOGITS and len(output.shape) > 1), None)
    width = logits.shape[-1] if logits else None
    ids = interface.content("token_ids")
    if not isinstance(width, int) or not linear or linear[-1].out_features != width or (ids and ids.below == width):
        return None
    return width
