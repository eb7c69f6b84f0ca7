"""What transformers has: the class for a model type and a task, its config, its attention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import transformers

from modelbuild.errors import ExportError
from modelbuild.model_files import CONFIG_FILE
from modelbuild.model_spec import InitSource
from modelbuild.suggest import did_you_mean
from modelbuild.tasks import Task


def architecture_for(config: Mapping[str, Any], task: Task) -> str:
    """The class that transformers builds for `task` from a model config: `BertForMaskedLM` for bert and fill-mask.

    Raises ExportError when the model type has no class for the task.
    """
    mapping = getattr(transformers, task.auto_class)._model_mapping  # noqa: SLF001 - there is no public one
    model_type = config["model_type"]
    known = transformers.CONFIG_MAPPING
    config_class = known[model_type] if model_type in known else None  # noqa: SIM401 - its get() loads nothing
    if config_class is None or config_class not in mapping:
        raise ExportError(
            f"transformers has no {task.name} model for model_type '{model_type}'",
            where=CONFIG_FILE,
            hint="choose another task" if config_class else did_you_mean(model_type, known.keys()),
        )
    found = mapping[config_class]
    first = found[0] if isinstance(found, tuple) else found
    return str(first.__name__)


def attention_for(config: Any, task: Task) -> str:
    """PyTorch's own attention where the architecture has it, and otherwise the one that is written out."""
    architecture = getattr(transformers, architecture_for({"model_type": config.model_type}, task))
    return "sdpa" if getattr(architecture, "_supports_sdpa", False) else "eager"


def init_config(source: InitSource) -> Any:
    architecture = getattr(transformers, source.architecture, None)
    config_class = getattr(architecture, "config_class", None)
    if config_class is None:
        raise ExportError(
            f"transformers has no model class '{source.architecture}'",
            where="model.source.architecture",
            hint=did_you_mean(
                source.architecture, [name for name in dir(transformers) if "Model" in name or "For" in name]
            ),
        )
    known = {"num_labels", *config_class().to_dict(), *config_class.attribute_map}
    for key in source.config:
        if key not in known:
            raise ExportError(
                f"{config_class.__name__} has no '{key}'", where="model.source.config", hint=did_you_mean(key, known)
            )
    try:
        return config_class(**source.config)
    except Exception as error:
        raise ExportError(f"{config_class.__name__} refuses it: {error}", where="model.source.config") from error


def reference_config(source: InitSource) -> dict[str, Any]:
    """The `config.json` of an `init` source, as plain JSON values."""
    config: dict[str, Any] = json.loads(init_config(source).to_json_string(use_diff=False))
    return config


def is_model_class(name: str) -> bool:
    """Whether transformers has a model class of that name."""
    found = getattr(transformers, name, None)
    return isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
