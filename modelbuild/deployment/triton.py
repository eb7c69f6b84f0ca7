"""A model repository for Triton Inference Server: every graph a model of its onnxruntime backend.

    <out>/<model>/config.pbtxt
    <out>/<model>/1/model.onnx  (and the file of its weights)

A package of several graphs gives a model for each, called `<package>_<graph>`: which runs when is the caller's. The
keys are those of Triton's `model_config.proto` and of the README of its onnxruntime backend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelbuild.deployment.files import copy_files
from modelbuild.deployment.options import Options
from modelbuild.deployment.triton_accelerators import accelerators, cuda_parameters, instance_group, require_known
from modelbuild.errors import ConfigError, PackageError
from modelbuild.manifest import GraphRecord, Manifest
from modelbuild.runtime.session import SessionSettings
from modelbuild.signature import TensorSpec

VERSION = "1"
# The backend takes no BF16.
_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "object": "STRING", "str": "STRING",
}  # fmt: skip
# ONNX Runtime's levels as the backend numbers them.
_LEVELS = {"none": 2, "basic": -1, "extended": 1, "all": 0}
# What Triton's own message holds.
_MOST_ROWS = (1 << 31) - 1
# The one session entry that the backend hands on, by the same name; and how those begin that change no numbers.
_ENTRY = "session.use_device_allocator_for_initializers"
_OF_THREADS = (
    "session.force_spinning_stop", "session.intra_op", "session.inter_op", "session.dynamic_block_base",
    "session.use_env_allocators",
)  # fmt: skip


def write(package: Path, manifest: Manifest, out: Path, options: Options) -> None:
    """Write the repository into `out`. Raises PackageError for what Triton cannot run, and ConfigError for a batch that
    the model cannot take.
    """
    settings = SessionSettings.from_mapping(manifest.session)
    _require_runnable(manifest, settings, package)
    for name, graph in manifest.graphs.items():
        model = _model_name(manifest, name)
        folder = out / model
        (folder / VERSION).mkdir(parents=True)
        lines = _config(model, manifest, settings, graph, _batch(name, graph, options))
        (folder / "config.pbtxt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        parts = (graph.file, f"{graph.file}.data")
        copy_files(package, [part for part in parts if part in manifest.files], folder / VERSION)


def _require_runnable(manifest: Manifest, settings: SessionSettings, package: Path) -> None:
    if settings.custom_ops:
        raise PackageError(
            f"Triton loads no libraries of custom operators from a package: {', '.join(settings.custom_ops)}",
            where=str(package),
            hint="give them to tritonserver by op_library_filename, or make a container",
        )
    if other := [key for key in settings.config_entries if key != _ENTRY and not key.startswith(_OF_THREADS)]:
        raise PackageError(
            f"Triton's onnxruntime backend sets no session.config_entries such as {other[0]}",
            where=str(package),
            hint="build without it",
        )
    require_known(manifest.providers)


def _model_name(manifest: Manifest, graph: str) -> str:
    name = manifest.name if len(manifest.graphs) == 1 else f"{manifest.name}_{graph}"
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _batch(name: str, graph: GraphRecord, options: Options) -> int:
    """How many rows Triton may put together: 0 where that was not asked for, for rows of unequal length it cannot."""
    asked = options.max_batch_size
    if asked is None:
        return 0
    tensors = (*graph.signature.inputs, *graph.signature.outputs)
    without = [tensor.name for tensor in tensors if not graph.batch or tensor.shape[:1] != (graph.batch,)]
    if without:
        raise ConfigError(
            f"rows of {name} cannot be put together: {without[0]} does not begin with the one axis of rows",
            where="--max-batch-size",
        )
    limit = graph.limits.get(graph.batch, _MOST_ROWS)
    if asked > limit:
        raise ConfigError(f"{asked}, and {name} takes at most {limit}", where="--max-batch-size")
    return asked


def _config(model: str, manifest: Manifest, settings: SessionSettings, graph: GraphRecord, batch: int) -> Iterator[str]:
    yield f"name: {json.dumps(model)}"
    yield 'backend: "onnxruntime"'
    yield f"default_model_filename: {json.dumps(graph.file)}"
    yield f"max_batch_size: {batch}"
    for kind, tensors in (("input", graph.signature.inputs), ("output", graph.signature.outputs)):
        for tensor in tensors:
            yield from _tensor(kind, tensor, batched=batch > 0)
    if batch:
        yield "dynamic_batching { }"
    yield instance_group(manifest.providers)
    level = _LEVELS[settings.graph_optimization_level]
    yield f"optimization {{ graph {{ level: {level} }}{accelerators(manifest.providers)} }}"
    untold = [f"{key}={value}" for key, value in settings.config_entries.items() if key != _ENTRY]
    for setting in [*([] if settings.allow_spinning else ["session.allow_spinning=false"]), *untold]:
        yield f"# The package was built with {setting}, for which the backend has no key."
    for key, value in (_session(settings) | cuda_parameters(manifest.providers)).items():
        yield f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"


def _tensor(kind: str, tensor: TensorSpec, *, batched: bool) -> Iterator[str]:
    if str(tensor.dtype) not in _TYPES:
        raise PackageError(f"Triton's onnxruntime backend has no type {tensor.dtype}", where=tensor.name)
    shape: Sequence[int | str] = tensor.shape[1:] if batched else tensor.shape
    dims = ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in shape)
    yield f"{kind} ["
    yield "  {"
    yield f"    name: {json.dumps(tensor.name)}"
    yield f"    data_type: TYPE_{_TYPES[str(tensor.dtype)]}"
    # An empty shape cannot be said: one of size 1 stands for it.
    yield f"    dims: [ {dims or '1'} ]"
    if batched and not shape:
        yield "    reshape { shape: [ ] }"
    yield "  }"
    yield "]"


def _session(settings: SessionSettings) -> dict[str, str]:
    return {
        "intra_op_thread_count": str(settings.intra_op_num_threads),
        "inter_op_thread_count": str(settings.inter_op_num_threads),
        "execution_mode": str(int(settings.execution_mode == "parallel")),
        "enable_mem_arena": str(int(settings.enable_cpu_mem_arena)),
        "enable_mem_pattern": str(int(settings.enable_mem_pattern)),
        **{key: value for key, value in settings.config_entries.items() if key == _ENTRY},
    }
