"""The PyTorch original: load it as it is. The door to torch and transformers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from modelbuild.architectures import architecture_for, attention_for, init_config
from modelbuild.checkpoint import Fit, Shape, refuse_pickle, require_every_weight, require_finite, require_shapes
from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError, first_line
from modelbuild.families import ORIGINALS
from modelbuild.mapped_weights import release
from modelbuild.model_config import read_config
from modelbuild.model_files import CONFIG_FILE, SAFE_SUFFIX, is_pickle
from modelbuild.model_spec import InitSource
from modelbuild.module_loading import UserModule, load_module
from modelbuild.single_precision import in_single_precision
from modelbuild.stage_spec import FolderFiles, ModuleFiles, StageModel
from modelbuild.suggest import did_you_mean
from modelbuild.tasks import Task
from modelbuild.weight_files import stored_shapes

# Where these are installed, transformers imports them with every model: for a way to generate and for losses of object
# detection, which its models do without here. That would be a second of every export.
_UNUSED = ("_sklearn_available", "_scipy_available")


@contextmanager
def _without_unused() -> Iterator[None]:
    """transformers loads a model as if what is unused were not installed. A user's own module may need it."""
    known = transformers.utils.import_utils
    before = {name: getattr(known, name) for name in _UNUSED}
    for name in _UNUSED:
        setattr(known, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(known, name, value)


@_without_unused()
def import_models() -> None:
    """Import what every model of transformers needs. It takes a second, and a stage that is begun by another has it."""
    getattr(transformers, "AutoModel", None)


@dataclass(frozen=True, kw_only=True)
class Original:
    """The PyTorch original as it was loaded: its module, and the names of the tensors that its checkpoint has and it
    has no place for, sorted (heads of another task, mostly).
    """

    module: torch.nn.Module
    unexpected_keys: tuple[str, ...] = ()


def load_original(
    model: StageModel, task: Task, folder: Path | None, weights: Path | None = None, scratch: Path | None = None
) -> Original:
    """The model in eval mode, fp32, as transformers builds it, with nothing patched; or as the user's own code does,
    with the `weights` of a file where they are not its own.

    A checkpoint in half precision is converted in `scratch`, where that is given, and not in memory.

    Raises ExportError when a file is not the one that was declared, when its config asks for code from elsewhere, when
    weights are missing from the checkpoint, do not fit or are no numbers, or when the architecture has no such task.
    """
    if isinstance(model.source, InitSource):
        _be_quiet()
        return Original(module=_initialized(model.source, task).eval())
    if folder is None:
        raise ExportError("the model's folder is not known", hint="run the build again")
    if isinstance(model.source, ModuleFiles):
        return Original(module=_users(model.source, task, folder, weights).eval())
    before = _stamps(model.source, folder)
    with ThreadPoolExecutor(1) as aside, _without_unused():
        verified = aside.submit(verify_source, model.source, folder)
        getattr(transformers, task.auto_class, None)  # imports what it needs
        verified.result()
    original = _from_folder(model.source, folder, task, scratch)
    if _stamps(model.source, folder) != before:
        raise ExportError("a file changed while it was being read", where=str(folder), hint="run the build again")
    return original


@_without_unused()
def _from_folder(source: FolderFiles, folder: Path, task: Task, scratch: Path | None) -> Original:
    """The original in `folder`, checked."""
    if task.family in ORIGINALS:
        pipeline, unexpected = _library(task).load_folder(folder, source.files)
        return Original(module=pipeline.eval(), unexpected_keys=unexpected)
    config = read_config(folder)
    _require_architecture(config, task, folder)
    with in_single_precision(folder, tuple(source.files), scratch) if scratch else nullcontext(folder) as weights:
        module, info = _from_checkpoint(source, folder, weights, task)
    declared = next(iter(config.get("architectures") or ()), None)
    fit = Fit(module=module, declared=declared, task=task, where=str(folder))
    require_every_weight(fit, info["missing_keys"])
    if info["mismatched_keys"]:
        require_shapes(fit, info["mismatched_keys"], _stored_shapes(source, folder))
    require_finite(fit)
    release()
    return Original(module=module.eval(), unexpected_keys=tuple(sorted(info["unexpected_keys"])))


def load_reference(model: StageModel, task: Task, folder: Path | None, weights: Path | None = None) -> torch.nn.Module:
    """The module of `load_original`."""
    return load_original(model, task, folder, weights).module


def load_again(model: StageModel, task: Task, folder: Path | None, weights: Path | None = None) -> torch.nn.Module:
    """What `load_reference` gave for the same arguments, loaded anew without checking it anew."""
    if isinstance(model.source, InitSource | ModuleFiles) or folder is None:
        return load_reference(model, task, folder, weights)
    if task.family in ORIGINALS:
        return _from_folder(model.source, folder, task, None).module
    return _from_checkpoint(model.source, folder, folder, task)[0].eval()


def _users(source: ModuleFiles, task: Task, folder: Path, weights: Path | None) -> UserModule:
    module = load_module(source, folder, weights)
    require_finite(Fit(module=module.model, declared=None, task=task, where=str(weights or folder / source.main)))
    return module


def _library(task: Task) -> Any:
    """The module that loads what transformers does not, imported where it is needed."""
    return importlib.import_module(ORIGINALS[task.family])


def verify_source(source: FolderFiles, folder: Path) -> None:
    """Raise ExportError unless every file of `source` in `folder` still has the content that was declared."""
    for name, expected in source.files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != expected:
            raise ExportError(f"{name} changed while it was being built", where=str(folder), hint="run the build again")


def _be_quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _stamps(source: FolderFiles, folder: Path) -> list[tuple[int, int, int]]:
    """What changes when a file does, between the look at its content and the end of its loading."""
    found = [(folder / name).stat() for name in source.files if (folder / name).is_file()]
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]


def _require_architecture(config: Mapping[str, Any], task: Task, folder: Path) -> None:
    architecture_for(config, task)
    for name in config.get("architectures") or ():
        if not hasattr(transformers, name):
            classes = [known for known in dir(transformers) if "Model" in known or "For" in known]
            raise ExportError(
                f"architectures has '{name}', which is no class of transformers",
                where=str(folder / CONFIG_FILE),
                hint=did_you_mean(name, classes) or "correct it, or remove it",
            )


@_without_unused()
def _from_checkpoint(
    source: FolderFiles, folder: Path, weights: Path, task: Task
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The model, its weights as they are in the folder `weights`, and what transformers says of the keys. A pickle is
    read where it was declared, as tensors only.
    """
    _be_quiet()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        # Read apart from the model: only so does the attention asked for here win over one that config.json names.
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        model, info = getattr(transformers, task.auto_class).from_pretrained(
            weights,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention_for(config, task),
            use_safetensors=not any(map(is_pickle, source.files)),
            weights_only=True,
            **local,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        refuse_pickle(error, str(folder))
        what = f"transformers cannot load it for {task.name}: {first_line(error)}"
        raise ExportError(what, where=str(folder), hint="fetch the model again, or choose another task") from error
    return model, info


def _stored_shapes(source: FolderFiles, folder: Path) -> dict[str, Shape]:
    """The shapes of all tensors in the checkpoint, by the names they have there."""
    found: dict[str, Shape] = {}
    for path in (folder / name for name in source.files):
        if path.name.endswith(SAFE_SUFFIX):
            found |= stored_shapes(path)
        elif is_pickle(path.name):
            tensors = torch.load(path, map_location="meta", weights_only=True)
            found |= {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return found


@_without_unused()
def _initialized(source: InitSource, task: Task) -> torch.nn.Module:
    if task.family in ORIGINALS:
        return _library(task).load_initialized(source)
    config = init_config(source)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            return getattr(transformers, task.auto_class).from_config(
                config, attn_implementation=attention_for(config, task)
            )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"{source.architecture} cannot be made for {task.name}: {first_line(error)}",
            where="model.source.config",
            hint="correct its sizes, or choose another task",
        ) from error


def parse_config(config: Mapping[str, Any]) -> Any:
    """A `config.json` as transformers reads it, with its family's defaults. Raises ExportError when it does not."""
    model_type = config.get("model_type")
    known = transformers.CONFIG_MAPPING
    if model_type not in known:
        hint = did_you_mean(str(model_type), known.keys()) or "correct model_type"
        raise ExportError(f"transformers knows no model_type {model_type!r}", where=CONFIG_FILE, hint=hint)
    config_class = known[model_type]
    try:
        return config_class.from_dict(dict(config))
    except Exception as error:
        what = f"{config_class.__name__} refuses it: {first_line(error)}"
        raise ExportError(what, where=CONFIG_FILE, hint="correct config.json") from error
