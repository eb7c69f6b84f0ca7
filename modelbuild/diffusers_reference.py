"""The PyTorch original of a pipeline: its text encoder, U-Net and autoencoder as they are. The door to diffusers."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from modelbuild.checkpoint import not_finite
from modelbuild.config_fields import dimensions, token_ids
from modelbuild.diffusers_folder import MODELS, PIPELINES, read_model_index
from modelbuild.errors import ExportError, first_line, listed
from modelbuild.model_files import CONFIG_FILE, SCHEDULER_CONFIG, is_pickle
from modelbuild.model_spec import InitSource
from modelbuild.suggest import did_you_mean

with warnings.catch_warnings():  # of modules of diffusers that nobody here uses, about a GPU that is not there
    warnings.simplefilter("ignore")
    import diffusers
    from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel

_CLASSES = {"text_encoder": transformers.CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL}
_SHOWN = 4
_SCHEDULER = "DDIMScheduler"


class Pipeline(torch.nn.Module):  # type: ignore[misc]  # torch gives its classes no types
    """The parts of a pipeline that compute, as one module. `index` is what `model_index.json` says, and `scheduler` the
    config of its scheduler, which is no part of any graph.
    """

    def __init__(
        self, parts: Mapping[str, torch.nn.Module], *, index: Mapping[str, Any], scheduler: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.text_encoder, self.unet, self.vae = (parts[name] for name in MODELS)
        self.index, self.scheduler = dict(index), dict(scheduler)

    def timesteps(self) -> int:
        """How many steps there are from an image to noise."""
        return int(self.scheduler["num_train_timesteps"])

    def pixels_per_latent(self) -> int:
        """How many pixels high and wide one latent is."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def native_latent(self) -> tuple[int, int]:
        """The height and width in latents that the U-Net was made for."""
        size = self.unet.config.sample_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return int(height), int(width)


def load_folder(folder: Path, files: Mapping[str, str]) -> tuple[Pipeline, tuple[str, ...]]:
    """The pipeline in `folder` in fp32, with nothing patched, and the names of the tensors that its checkpoints have
    and it has no place for.

    Raises ExportError when weights are missing, do not fit or are no numbers, when parts do not fit each other, or when
    the scheduler is none of diffusers'.
    """
    index = read_model_index(folder)
    scheduler = json.loads((folder / "scheduler" / SCHEDULER_CONFIG).read_text(encoding="utf-8"))
    parts, unexpected = {}, []
    for name in MODELS:
        pickled = any(is_pickle(file) for file in files if file.startswith(f"{name}/"))
        parts[name], keys = _from_checkpoint(name, folder / name, pickled=pickled)
        unexpected += [f"{name}.{key}" for key in keys]
    return _whole(parts, index, scheduler), tuple(sorted(unexpected))


def load_initialized(source: InitSource) -> Pipeline:
    """The pipeline that an `init` source describes: for each part the keys of its own config, and random weights."""
    _require_keys(source)
    scheduler = dict(_of(source, "scheduler"))
    kind = str(scheduler.pop("_class_name", _SCHEDULER))
    # As Stable Diffusion's own: what others are is said by their configs.
    given = {"steps_offset": 1, "clip_sample": False} if kind == _SCHEDULER else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        parts = {name: _initialized(name, _of(source, name)) for name in MODELS}
    made = _attempt("scheduler", lambda: _scheduler_class(kind).from_config(given | scheduler))
    index: dict[str, Any] = {"_class_name": source.architecture, "_diffusers_version": diffusers.__version__}
    index |= {name: list(named) for name, named in MODELS.items()} | {"scheduler": ["diffusers", kind]}
    index |= {"tokenizer": [None, None], "requires_safety_checker": False}
    return _whole(parts, index, _plain(made.config))


def configs(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """The config of every part that computes, as plain JSON values."""
    text = completed("text_encoder", json.loads(pipeline.text_encoder.config.to_json_string()))
    return {"text_encoder": text, "unet": _plain(pipeline.unet.config), "vae": _plain(pipeline.vae.config)}


def completed(part: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a part with the defaults of its class for what it leaves out."""
    if part == "text_encoder":  # of whose many keys few say anything of the graph
        parsed = _attempt(part, lambda: transformers.CLIPTextConfig.from_dict(dict(given)))
        fields = (*dimensions(parsed), *token_ids(parsed))
        return dict(given) | {field.own: field.value for field in fields if not field.found(given)}
    defaults = {name: value.default for name, value in inspect.signature(_CLASSES[part]).parameters.items()}
    return dict(json.loads(json.dumps(defaults))) | dict(given)


def _plain(config: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(config), default=str))
    return {key: value for key, value in plain.items() if key not in ("_use_default_values", "_name_or_path")}


def _scheduler_class(kind: str) -> Any:
    found = getattr(diffusers, kind, None)
    if not isinstance(found, type) or not issubclass(found, SchedulerMixin):
        known = [name for name in dir(diffusers) if name.endswith("Scheduler")]
        raise ExportError(
            f"diffusers has no scheduler '{kind}'", where="scheduler", hint=did_you_mean(kind, known) or "correct it"
        )
    return found


def _from_checkpoint(name: str, folder: Path, *, pickled: bool) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """One part, and the keys of its checkpoint that it has no place for. Raises ExportError unless its weights fit."""
    _be_quiet()
    of_diffusers = MODELS[name][0] == "diffusers"
    dtype = {"torch_dtype": torch.float32} if of_diffusers else {"dtype": torch.float32, "attn_implementation": "sdpa"}
    more = {"low_cpu_mem_usage": False} if of_diffusers else {"weights_only": True}
    module, info = _attempt(
        str(folder),
        lambda: _CLASSES[name].from_pretrained(
            folder,
            use_safetensors=not pickled,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **dtype,
            **more,
        ),
    )
    kind = type(module).__name__
    for problem, keys in (("no weights for", info["missing_keys"]), ("other shapes for", info["mismatched_keys"])):
        found = sorted(key if isinstance(key, str) else key[0] for key in keys)
        if found:
            raise ExportError(
                f"not a whole {kind}: the checkpoint has {problem} {listed(found, _SHOWN)}",
                where=str(folder),
                hint=f"correct {name}/{CONFIG_FILE}, or fetch the model again",
            )
    if bad := not_finite(module):
        raise ExportError(bad, where=str(folder), hint="the checkpoint is damaged: fetch it or train it again")
    return module, tuple(info["unexpected_keys"])


def _initialized(name: str, config: Mapping[str, Any]) -> torch.nn.Module:
    kind = _CLASSES[name]
    if MODELS[name][0] == "diffusers":
        return _attempt(f"model.source.config.{name}", lambda: kind.from_config(dict(config)))
    return _attempt(f"model.source.config.{name}", lambda: kind(kind.config_class(**config)))


def _of(source: InitSource, part: str) -> Mapping[str, Any]:
    found = source.config.get(part, {})
    if not isinstance(found, dict):
        raise ExportError(f"{part} must be a config, and is {json.dumps(found)}", where="model.source.config")
    return found


def _require_keys(source: InitSource) -> None:
    if source.architecture not in PIPELINES:
        hint = did_you_mean(source.architecture, PIPELINES) or f"choose {'|'.join(PIPELINES)}"
        raise ExportError(f"no pipeline '{source.architecture}'", where="model.source.architecture", hint=hint)
    parts = (*MODELS, "scheduler")
    for part in source.config:
        if part not in parts:
            hint = did_you_mean(part, parts) or f"its parts are {', '.join(parts)}"
            raise ExportError(f"{source.architecture} has no '{part}'", where="model.source.config", hint=hint)
    for part in parts:
        of_text = part == "text_encoder"
        scheduler = str(_of(source, "scheduler").get("_class_name", _SCHEDULER))
        kind = _scheduler_class(scheduler) if part == "scheduler" else _CLASSES[part]
        known = {"_class_name"} | set(kind.config_class().to_dict() if of_text else inspect.signature(kind).parameters)
        for key in _of(source, part):
            if key not in known:
                raise ExportError(
                    f"{kind.__name__} has no '{key}'",
                    where=f"model.source.config.{part}",
                    hint=did_you_mean(key, known),
                )


def _whole(parts: Mapping[str, torch.nn.Module], index: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Pipeline:
    """The pipeline of parts that fit each other."""
    _scheduler_class(str(index["scheduler"][1]))
    text, unet, vae = (parts[name].config for name in MODELS)
    pairs = {
        "unet cross_attention_dim": (unet.cross_attention_dim, "text_encoder hidden_size", text.hidden_size),
        "unet in_channels": (unet.in_channels, "vae latent_channels", vae.latent_channels),
        "unet out_channels": (unet.out_channels, "vae latent_channels", vae.latent_channels),
    }
    for name, (value, other, wanted) in pairs.items():
        if value != wanted:
            raise ExportError(
                f"{name} is {value}, and {other} is {wanted}", where="model_index.json", hint="they must be the same"
            )
    if not isinstance(scheduler.get("num_train_timesteps"), int):
        raise ExportError("no num_train_timesteps", where=f"scheduler/{SCHEDULER_CONFIG}", hint="it is mostly 1000")
    return Pipeline({name: part.eval() for name, part in parts.items()}, index=index, scheduler=scheduler)


def _attempt(where: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"it cannot be made: {first_line(error)}", where=where) from error


def _be_quiet() -> None:
    for library in (transformers, diffusers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
