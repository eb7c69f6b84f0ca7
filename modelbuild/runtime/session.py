"""Opening ONNX Runtime sessions: threads, session options and the provider contract."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import onnxruntime as ort

from modelbuild.errors import HostError, InputError, PackageError
from modelbuild.kinds import require_kinds
from modelbuild.providers import CPU, PROVIDERS, needs, option_keys, ort_name
from modelbuild.runtime.cores import usable_cores
from modelbuild.runtime.custom_ops import register
from modelbuild.suggest import did_you_mean

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
# Where ONNX Runtime says more than is known here; an exporter knows better.
SEE_MESSAGE = "see the message of ONNX Runtime"
_MOST_THREADS = 1 << 15
_KINDS = "threads are whole numbers, modes and levels texts, switches true or false, config_entries a mapping"
# With it, ONNX Runtime takes options from inside a model, and not those that it is given.
_CONFIG_FROM_MODEL = "ORT_LOAD_CONFIG_FROM_MODEL"
_LOGGER = logging.getLogger("modelbuild.runtime")
ProviderChoice = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a session runs; the keys of the `session` config group. Thread counts of 0 are decided where it is opened.

    `custom_ops` are the paths of libraries of custom operators, which are loaded and registered in this order.
    """

    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 1
    execution_mode: str = "sequential"
    graph_optimization_level: str = "all"
    enable_mem_pattern: bool = True
    enable_cpu_mem_arena: bool = True
    allow_spinning: bool = True
    config_entries: Mapping[str, str] = field(default_factory=dict)
    custom_ops: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SessionSettings:
        """Settings from a mapping with these keys. Raises PackageError for a key or a level that does not exist."""
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            known = [item.name for item in fields(cls)]
            name = min(unknown)
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise PackageError(f"there is no session setting '{name}'", where="session", hint=hint)
        libraries = values.get("custom_ops", ())
        if not isinstance(libraries, list | tuple) or not all(isinstance(path, str | Path) for path in libraries):
            raise PackageError(f"custom_ops is {libraries!r}", where="session", hint="it is a list of paths")
        try:
            require_kinds(cls, values)
        except TypeError as error:
            raise PackageError(str(error), where="session", hint=_KINDS) from error
        _require_values(values)
        settings = cls(**dict(values) | {"custom_ops": tuple(map(os.fspath, libraries))})
        if settings.graph_optimization_level not in _LEVELS or settings.execution_mode not in (
            "sequential",
            "parallel",
        ):
            raise PackageError(
                f"no such level or mode: {settings.graph_optimization_level}, {settings.execution_mode}",
                where="session",
                hint=f"levels are {', '.join(_LEVELS)}, modes sequential and parallel",
            )
        return settings


def _require_values(values: Mapping[str, Any]) -> None:
    for name in ("intra_op_num_threads", "inter_op_num_threads"):
        if not 0 <= values.get(name, 0) <= _MOST_THREADS:
            hint = f"0, which leaves it to where it runs, or up to {_MOST_THREADS}"
            raise PackageError(f"its {name} is {values[name]}", where="session", hint=hint)
    for key, value in values.get("config_entries", {}).items():
        if not (isinstance(key, str) and key and isinstance(value, str)):
            raise PackageError(f"config_entries has {key!r}: {value!r}", where="session", hint="both are texts")


def provider_choices(providers: str | Sequence[str | ProviderChoice]) -> list[ProviderChoice]:
    """A name, names, or names with options, as names with options. Raises InputError for anything else."""
    given: Sequence[Any] = [providers] if isinstance(providers, str) else providers
    if isinstance(given, list | tuple):
        choices = [(choice, {}) if isinstance(choice, str) else choice for choice in given]
        if all(map(_is_choice, choices)):
            return [(str(name), options) for name, options in choices]
    hint = "give a name, a list of names, or of pairs such as ('cuda', {'device_id': 0})"
    raise InputError(f"{providers!r} are no providers", hint=hint)


def _is_choice(choice: Any) -> bool:
    pair = isinstance(choice, list | tuple) and len(choice) == 2
    return pair and isinstance(choice[0], str) and isinstance(choice[1], Mapping)


def session_options(settings: SessionSettings, profile_prefix: Path | None = None) -> ort.SessionOptions:
    """ONNX Runtime's session options for `settings`, with thread counts of 0 replaced by what this process may use.

    With `profile_prefix` the session writes a profile of its runs into a file whose path begins so. Raises what
    `custom_ops.register` raises.
    """
    options = ort.SessionOptions()
    register(options, settings.custom_ops)
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(profile_prefix)
    parallel = settings.execution_mode == "parallel"
    cores = usable_cores()
    options.intra_op_num_threads = settings.intra_op_num_threads or (max(1, cores // 2) if parallel else cores)
    options.inter_op_num_threads = settings.inter_op_num_threads or (cores if parallel else 1)
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _LEVELS[settings.graph_optimization_level]
    options.enable_mem_pattern = settings.enable_mem_pattern
    options.enable_cpu_mem_arena = settings.enable_cpu_mem_arena
    options.log_severity_level = 3
    spinning = "1" if settings.allow_spinning else "0"
    entries = {"session.intra_op.allow_spinning": spinning, "session.inter_op.allow_spinning": spinning}
    for key, value in (entries | dict(settings.config_entries)).items():
        options.add_session_config_entry(key, value)
    return options


def require_available(names: Sequence[str]) -> None:
    """Raise HostError, naming what is missing, unless this ONNX Runtime has every provider of `names`."""
    available = ort.get_available_providers()
    for name in names:
        if ort_name(name) not in available:
            raise HostError(
                f"{ort_name(name)} is not available",
                where=f"onnxruntime {ort.__version__} here has {', '.join(available)}",
                hint=f"it needs {needs(name)}; or choose providers=cpu",
            )


def _require_known(choices: Sequence[ProviderChoice]) -> None:
    known = {*PROVIDERS, *ort.get_all_providers(), *ort.get_available_providers()}
    if not choices:
        raise HostError("no provider is given", hint="choose providers=cpu")
    for name, options in choices:
        if name not in known:
            raise HostError(f"there is no provider '{name}'", hint=did_you_mean(name, known))
        _require_options(name, options)


def _require_options(name: str, options: Mapping[str, Any]) -> None:
    keys = option_keys(name)
    for key, value in options.items():
        if keys is not None and key not in keys:
            hint = did_you_mean(key, keys) if keys else "it has none; threads and arena belong to the session"
            raise HostError(f"{ort_name(name)} has no option '{key}'", hint=hint)
        if key == "device_id" and not str(value).isdecimal():
            raise HostError(f"there is no device {value!r}", where=ort_name(name), hint="device_id is 0, 1, 2, …")


def open_session(
    model: Path,
    *,
    providers: Sequence[ProviderChoice],
    settings: SessionSettings,
    allow_fallback: bool = False,
    profile_prefix: Path | None = None,
) -> ort.InferenceSession:
    """A session on `model` with all of `providers`, or an error: none of them is left out in silence.

    Nodes that none of them takes run on the CPU, as always in ONNX Runtime; `node_placement` says which. With
    `profile_prefix` the session writes a profile into a file whose path begins so. Raises HostError when a provider or
    an option of it does not exist, or a provider is not available or ONNX Runtime opens no session with it (unless
    `allow_fallback`), PackageError when the file cannot be loaded, and what `session_options` raises.
    """
    if os.environ.get(_CONFIG_FROM_MODEL, "0") != "0":
        raise HostError(f"{_CONFIG_FROM_MODEL} lets a model choose how it runs", hint="unset it")
    _require_known(providers)
    if not allow_fallback:
        require_available([name for name, _ in providers])
    asked = [(ort_name(name), _as_strings(options)) for name, options in providers]
    usable = [choice for choice in asked if choice[0] in ort.get_available_providers()] or [(CPU, {})]
    session_settings = session_options(settings, profile_prefix)
    try:
        session = ort.InferenceSession(
            os.fspath(model),
            session_settings,
            providers=usable,
            enable_fallback=int(allow_fallback),
        )
    except Exception as error:
        raise _cannot_open(model, [name for name, _ in usable], error, settings.custom_ops) from error
    active = session.get_providers()
    absent = [name for name, _ in asked if name not in active] or ([asked[0][0]] if active[0] != asked[0][0] else [])
    if absent and not allow_fallback:
        raise HostError(
            f"{', '.join(absent)} was asked for and ONNX Runtime opened {', '.join(active)} instead",
            where=model.name,
            hint=f"it needs {needs(absent[0])}; or set providers.allow_fallback=true",
        )
    if absent:
        _LOGGER.warning("%s runs on %s, and not on %s", model.name, ", ".join(active), ", ".join(absent))
    return session


def _cannot_open(
    model: Path, asked: Sequence[str], error: Exception, custom_ops: tuple[str, ...]
) -> HostError | PackageError:
    """Whose fault it is: a file that opens on the CPU with the default settings, and its operators, is good."""
    said = re.sub(r"^/onnxruntime_src/\S+ .+?\) ", "", str(error))  # where in its source a library is not found
    try:
        ort.InferenceSession(os.fspath(model), session_options(SessionSettings(custom_ops=custom_ops)), providers=[CPU])
    except Exception:  # noqa: BLE001 - it does not matter why: the first error is the one to show
        if unknown := re.search(r"Fatal error: (.*):([^:]+)\(-?\d+\) is not a registered function/op", said):
            return _unknown_operator(model, unknown[1], unknown[2], custom_ops)
        return PackageError(f"ONNX Runtime cannot open the model: {said}", where=model.name, hint=SEE_MESSAGE)
    return HostError(
        f"ONNX Runtime opens no session on {', '.join(asked)} with these settings: {said}",
        where=model.name,
        hint=f"{asked[0]} needs {needs(asked[0])}; on the CPU with default settings the model opens",
    )


def _unknown_operator(model: Path, domain: str, name: str, custom_ops: Sequence[str]) -> PackageError:
    also = f", nor has {', '.join(Path(library).name for library in custom_ops)}" if custom_ops else ""
    return PackageError(
        f"ONNX Runtime has no operator '{name}' of the domain '{domain}'{also}",
        where=model.name,
        hint="name the library that has it: session.custom_ops=[…]",
    )


def _as_strings(options: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(int(value)) if isinstance(value, bool) else str(value) for key, value in options.items()}
