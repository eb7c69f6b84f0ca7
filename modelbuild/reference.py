"""The PyTorch original: load it as it is, run it as it is. The door to torch and transformers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.model_files import TOKENIZER_FILES
from modelbuild.spec import InitSource
from modelbuild.stage_spec import FolderFiles, StageModel
from modelbuild.suggest import did_you_mean
from modelbuild.tasks import Task

Arrays = Mapping[str, npt.NDArray[Any]]
Outputs = dict[str, npt.NDArray[Any]]


def load_reference(model: StageModel, task: Task, folder: Path | None) -> torch.nn.Module:
    """The model in eval mode, fp32, as transformers builds it, with nothing patched.

    Raises ExportError when a file is not the one that was declared, when weights are missing from the checkpoint or
    do not fit, or when the architecture has no such task.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if isinstance(model.source, InitSource):
        return _initialized(model.source, task).eval()
    if folder is None:
        raise ExportError("the model's folder is not known", hint="run the build again")
    verify_source(model.source, folder)
    return _from_checkpoint(folder, task).eval()


def verify_source(source: FolderFiles, folder: Path) -> None:
    """Raise ExportError unless every file of `source` in `folder` still has the content that was declared."""
    for name, expected in source.files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != expected:
            raise ExportError(f"{name} changed while it was being built", where=str(folder), hint="run the build again")


def _from_checkpoint(folder: Path, task: Task) -> torch.nn.Module:
    auto_class = getattr(transformers, task.auto_class)
    try:
        model, info = auto_class.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        raise ExportError(f"transformers cannot load it for {task.name}: {error}", where=str(folder)) from error
    mismatched = list(info["mismatched_keys"])
    missing = [
        key
        for key in info["missing_keys"]
        if not key.removeprefix(f"{model.base_model_prefix}.").startswith(task.unused_weights or "\0")
    ]
    for keys, what in ((mismatched, "of another shape"), (missing, "that the checkpoint does not have")):
        if keys:
            shown = ", ".join(sorted(keys)[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            raise ExportError(
                f"{type(model).__name__} needs weights {what}: {shown}",
                where=str(folder),
                hint=f"the checkpoint is not for {task.name}; choose another task or checkpoint",
            )
    return model


def _initialized(source: InitSource, task: Task) -> torch.nn.Module:
    config = _init_config(source)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            return getattr(transformers, task.auto_class).from_config(config, attn_implementation="sdpa")
    except Exception as error:
        raise ExportError(
            f"{source.architecture} cannot be made for {task.name}: {error}", where="model.source.config"
        ) from error


def _init_config(source: InitSource) -> Any:
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
    config: dict[str, Any] = json.loads(_init_config(source).to_json_string(use_diff=False))
    return config


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
            f"transformers has no {task.name} model for model_type '{model_type}'", hint="choose another task"
        )
    found = mapping[config_class]
    first = found[0] if isinstance(found, tuple) else found
    return str(first.__name__)


def input_names(model: torch.nn.Module, task: Task) -> tuple[str, ...]:
    """The inputs of `task` that this model's `forward` takes, in the task's order.

    Raises ExportError when it does not take text.
    """
    accepted = inspect.signature(model.forward).parameters
    if task.inputs[0] not in accepted:
        raise ExportError(
            f"{type(model).__name__} takes {next(iter(accepted))} and not {task.inputs[0]}",
            where=task.name,
            hint="choose a text model",
        )
    return tuple(name for name in task.inputs if name in accepted)


def run_reference(model: torch.nn.Module, inputs: Arrays, outputs: Sequence[str]) -> Outputs:
    """The named outputs of `model` for `inputs`, in eager mode without gradients."""
    with torch.inference_mode():
        result = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return {name: np.asarray(result[name]) for name in outputs}


def parse_config(config: Mapping[str, Any]) -> Any:
    """A `config.json` as transformers reads it, with its family's defaults. Raises ExportError when it does not."""
    config_class = transformers.CONFIG_MAPPING[config["model_type"]]
    try:
        return config_class.from_dict(dict(config))
    except Exception as error:
        raise ExportError(f"{config_class.__name__} refuses it: {error}", where="config.json") from error


def is_model_class(name: str) -> bool:
    """Whether transformers has a model class of that name."""
    found = getattr(transformers, name, None)
    return isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, as transformers opens it.

    Raises ExportError, which names the file if it is not JSON, when it cannot be read.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        what = _not_json(folder) or str(error).strip().partition("\n")[0] or type(error).__name__
        raise ExportError(f"the tokenizer cannot be read: {what}", where=str(folder)) from error


def _not_json(folder: Path) -> str:
    for path in [folder / name for name in TOKENIZER_FILES if name.endswith(".json")]:
        try:
            json.loads(path.read_bytes() if path.exists() else "{}")
        except ValueError as error:
            return f"{path.name}: {error}"
    return ""


def tokenize(
    folder: Path, texts: Sequence[str], names: Sequence[str], *, padding_side: str, max_length: int
) -> Outputs:
    """`texts` through the tokenizer in `folder`: arrays `(batch, sequence)` of int64 for each of `names`."""
    tokenizer = open_tokenizer(folder)
    tokenizer.padding_side = padding_side
    if tokenizer.pad_token is None:  # any token will do, for the mask hides it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    encoded = tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=max_length,
        return_tensors="np",
        return_token_type_ids="token_type_ids" in names,
        return_attention_mask=True,
    )
    return {name: encoded[name].astype(np.int64) for name in names}


def tokenizer_size(folder: Path) -> int:
    """The rows that an embedding needs for the tokenizer in `folder`: its largest id, added tokens included, and 1."""
    return int(max(open_tokenizer(folder).get_vocab().values(), default=-1)) + 1
