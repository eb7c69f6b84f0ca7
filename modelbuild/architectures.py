"""What transformers has: the class for a model type and a task, its config, its attention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import transformers

from modelbuild.errors import ExportError, first_line
from modelbuild.model_files import CONFIG_FILE
from modelbuild.model_spec import InitSource
from modelbuild.suggest import did_you_mean
from modelbuild.tasks import TASKS, Task, TaskName


def architecture_for(config: Mapping[str, Any], task: Task) -> str:
    """The class that transformers builds for `task` from a model config: `BertForMaskedLM` for bert and fill-mask.

    Raises ExportError, with the tasks that the model type has, when it has no class for this one, or a class that does
    not take what the task gives it.
    """
    model_type = config["model_type"]
    found = _class_name(model_type, task)
    if found is None:
        raise ExportError(
            f"transformers has no {task.name} model for model_type '{model_type}'", **_way_out(model_type)
        )
    taken = _main_input(found)
    if taken not in task.inputs:
        raise ExportError(
            f"a {found} takes {taken}, and {task.name} has {', '.join(task.inputs)}", **_way_out(model_type)
        )
    return found


def tasks_of(config: Mapping[str, Any]) -> tuple[TaskName, ...]:
    """The tasks that a model of this config can be built for; none where transformers does not know its type.

    Where it has no `model_type`, it is that of the first of its `architectures`.
    """
    declared = next(iter(config.get("architectures") or ()), "")
    own_config = getattr(getattr(transformers, declared, None), "config_class", None)
    model_type = str(config.get("model_type") or getattr(own_config, "model_type", ""))
    found = {task.name: _class_name(model_type, task) for task in TASKS.values()}
    return tuple(name for name, built in found.items() if built and _main_input(built) in TASKS[name].inputs)


def _class_name(model_type: str, task: Task) -> str | None:
    """The class that transformers builds, or None. Tasks of other libraries have no mapping there."""
    mapping = getattr(getattr(transformers, task.auto_class, None), "_model_mapping", {})
    known = transformers.CONFIG_MAPPING
    config_class = known[model_type] if model_type in known else None  # noqa: SIM401 - its get() loads nothing
    if config_class is None or config_class not in mapping:
        return None
    found = mapping[config_class]
    return str((found[0] if isinstance(found, tuple) else found).__name__)


def _main_input(architecture: str) -> str:
    """What a class takes first: `input_ids`, `pixel_values`, `input_features`."""
    return str(getattr(transformers, architecture).main_input_name)


def _way_out(model_type: str) -> dict[str, str]:
    """Where to look and what to do when a model type does not have a task."""
    known = transformers.CONFIG_MAPPING
    if model_type not in known:
        return {"where": CONFIG_FILE, "hint": did_you_mean(model_type, known.keys())}
    tasks = tasks_of({"model_type": model_type})
    return {"where": "task.name", "hint": f"choose task={'|'.join(tasks)}" if tasks else "no task fits it"}


def attention_for(config: Any, task: Task) -> str:
    """PyTorch's own attention where the architecture has it, and otherwise the one that is written out."""
    architecture = getattr(transformers, architecture_for({"model_type": config.model_type}, task))
    return "sdpa" if getattr(architecture, "_supports_sdpa", False) else "eager"


def init_config(source: InitSource) -> Any:
    """The config of an `init` source. Raises ExportError when there is no such architecture, or it is refused."""
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
        what = f"{config_class.__name__} refuses it: {first_line(error)}"
        raise ExportError(what, where="model.source.config", hint="correct its values") from error


def reference_config(source: InitSource) -> dict[str, Any]:
    """The `config.json` of an `init` source, as plain JSON values."""
    config: dict[str, Any] = json.loads(init_config(source).to_json_string(use_diff=False))
    return config


def is_model_class(name: str) -> bool:
    """Whether transformers has a model class of that name."""
    found = getattr(transformers, name, None)
    return isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
