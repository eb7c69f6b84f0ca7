"""The configs of a pipeline that ship, against the original and the graphs beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild.checks.sidecar import check, has_sidecar, read_object, same, show
from modelbuild.checks.subject import Subject
from modelbuild.diffusers_configs import GRAPHS, shipped_index
from modelbuild.diffusers_reference import Pipeline, configs
from modelbuild.graph import read_graph
from modelbuild.model_files import CONFIG_FILE, MODEL_INDEX, SCHEDULER_CONFIG, VOCABULARY_FILES
from modelbuild.report import Check

Config = Mapping[str, Any]

# Beside weights of an unknown origin these say nothing of what is computed.
_FREE = frozenset({"_name_or_path", "_diffusers_version", "transformers_version", "dtype", "torch_dtype"})
# What a config says of a graph: folder, key, and the tensor and its axis that has so many times the size.
_SIZES = (
    ("text_encoder", "hidden_size", "last_hidden_state", 2, 1),
    ("unet", "in_channels", "sample", 1, 1),
    ("unet", "out_channels", "out_sample", 1, 1),
    ("unet", "cross_attention_dim", "encoder_hidden_states", 2, 1),
    ("vae_encoder", "in_channels", "sample", 1, 1),
    ("vae_encoder", "latent_channels", "latent_parameters", 1, 2),
    ("vae_decoder", "latent_channels", "latent_sample", 1, 1),
    ("vae_decoder", "out_channels", "sample", 1, 1),
)


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with the configs; nothing for a model that is no pipeline, or where none were asked for."""
    pipeline = subject.reference
    if not isinstance(pipeline, Pipeline) or not has_sidecar(subject):
        return
    yield check("index", f"{MODEL_INDEX} with the original's, and what is there", _index(subject, pipeline))
    path = f"scheduler/{SCHEDULER_CONFIG}"
    yield check("scheduler config", "the original's", _differences(subject, path, pipeline.scheduler))
    originals = configs(pipeline)
    for part, graphs in GRAPHS.items():
        for graph in graphs:
            name = f"{graph}/{CONFIG_FILE}"
            yield check(f"{graph} config", "the original's", _differences(subject, name, originals[part]))
    yield check("config sizes", "channels and widths with the graphs'", _sizes(subject))


def _index(subject: Subject, pipeline: Pipeline) -> Iterator[str]:
    yield from _differences(subject, MODEL_INDEX, shipped_index(pipeline.index))
    index, _ = read_object(subject.sidecar / MODEL_INDEX)
    named = index.get("tokenizer") not in (None, [None, None])
    there = any((subject.tokenizer / name).is_file() for name in VOCABULARY_FILES)
    if named != there:
        yield f"{MODEL_INDEX} tokenizer: {show(index.get('tokenizer'))}, and there is {'one' if there else 'none'}"


def _differences(subject: Subject, name: str, original: Config) -> Iterator[str]:
    """The keys that one of ours and the original's config has not, or with another value."""
    config, fault = read_object(subject.sidecar / name)
    if fault:
        yield f"{name}: {fault}"
        return
    for key, value in original.items():
        if key not in _FREE and key not in config:
            yield f"{name} {key}: missing, the original's is {show(value)}"
        elif key not in _FREE and not same(config[key], value):
            yield f"{name} {key}: {show(config[key])}, the original's is {show(value)}"
    for key in sorted(config.keys() - original.keys() - _FREE):
        yield f"{name} {key}: {show(config[key])}, the original has no such key"


def _sizes(subject: Subject) -> Iterator[str]:
    folder = subject.model_file.parent.parent
    graphs = {name: read_graph(folder / name / subject.model_file.name) for names in GRAPHS.values() for name in names}
    for graph, key, tensor, axis, factor in _SIZES:
        signature = graphs[graph].signature
        shapes = {spec.name: spec.shape for spec in (*signature.inputs, *signature.outputs)}
        size = shapes[tensor][axis] if len(shapes.get(tensor, ())) > axis else None
        config, _ = read_object(subject.sidecar / graph / CONFIG_FILE)
        given = config.get(key)
        if not isinstance(given, int) or given * factor != size:
            yield f"{graph}/{CONFIG_FILE} {key}: {show(given)}, the graph's {tensor} has {size} on axis {axis}"
