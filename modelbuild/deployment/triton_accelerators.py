"""Execution providers and their options as Triton's onnxruntime backend takes them: its README and `onnxruntime.cc`.

The backend gives every model on a GPU the CUDA provider; `tensorrt` goes before it. Four options of CUDA are looked for
among the parameters of the model, under numbers for their values, and get defaults if they are not there, whatever the
accelerator says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from modelbuild.errors import PackageError

Providers = Sequence[tuple[str, Mapping[str, object]]]

_GPU = ("cuda", "tensorrt")
_KNOWN = ("cpu", *_GPU)
_AMONG_PARAMETERS: dict[str, Mapping[str, str]] = {
    "cudnn_conv_algo_search": {"EXHAUSTIVE": "0", "HEURISTIC": "1", "DEFAULT": "2"},
    "arena_extend_strategy": {"kNextPowerOfTwo": "0", "kSameAsRequested": "1"},
    "gpu_mem_limit": {},
    "do_copy_in_default_stream": {},
}
_PRECISIONS = {"trt_fp16_enable": "FP16", "trt_bf16_enable": "BF16", "trt_int8_enable": "INT8"}
# By ONNX Runtime's name, where the backend's is another.
_RENAMED = {
    "trt_max_workspace_size": "max_workspace_size_bytes",
    "trt_int8_calibration_table_name": "int8_calibration_table_name",
    "trt_int8_use_native_calibration_table": "int8_use_native_calibration_table",
}
_TENSORRT = """
trt_max_partition_iterations trt_min_subgraph_size trt_dla_enable trt_dla_core trt_engine_cache_enable
trt_engine_cache_path trt_engine_cache_prefix trt_dump_subgraphs trt_force_sequential_engine_build
trt_context_memory_sharing_enable trt_layer_norm_fp32_fallback trt_timing_cache_enable trt_timing_cache_path
trt_force_timing_cache trt_detailed_build_log trt_build_heuristics_enable trt_sparsity_enable
trt_builder_optimization_level trt_auxiliary_streams trt_tactic_sources trt_extra_plugin_lib_paths
trt_profile_min_shapes trt_profile_max_shapes trt_profile_opt_shapes trt_cuda_graph_enable trt_dump_ep_context_model
trt_ep_context_file_path trt_ep_context_embed_mode
"""


def require_known(providers: Providers) -> None:
    """Raise PackageError for a provider that the backend does not have."""
    for name, _ in providers:
        if name not in _KNOWN:
            raise PackageError(
                f"a model repository is written for {', '.join(_KNOWN)}, and this package for {name}",
                hint="build with one of these",
            )


def instance_group(providers: Providers) -> str:
    """One instance, on the GPU that the package was built for, or on the CPU."""
    for name, options in providers:
        if name in _GPU:
            return f"instance_group [ {{ count: 1 kind: KIND_GPU gpus: [ {options.get('device_id', 0)} ] }} ]"
    return "instance_group [ { count: 1 kind: KIND_CPU } ]"


def accelerators(providers: Providers) -> str:
    """What goes into `optimization`: nothing for the CPU. Raises PackageError for an option that has no key there."""
    told = "".join(
        f" {{ name: {json.dumps(name)}{''.join(_parameter(*pair) for pair in _options(name, options))} }},"
        for name, options in providers
        if name in _GPU
    )
    return f" execution_accelerators {{ gpu_execution_accelerator: [{told.rstrip(',')} ] }}" if told else ""


def _parameter(key: str, value: str) -> str:
    return f" parameters {{ key: {json.dumps(key)} value: {json.dumps(value)} }}"


def _options(name: str, options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The keys and values of an accelerator; the device is said elsewhere."""
    precisions = [key for key in _PRECISIONS if _text(options.get(key, "0")) == "1"]
    if len(precisions) > 1:
        raise PackageError(f"Triton's onnxruntime backend takes one of {', '.join(precisions)}", hint="build with one")
    for key, value in options.items():
        if key == "device_id" or (name == "cuda" and key in _AMONG_PARAMETERS):
            continue
        if key in _PRECISIONS:
            if _text(value) == "1":
                yield "precision_mode", _PRECISIONS[key]
        elif name == "cuda" or key in _TENSORRT.split() or key in _RENAMED:
            yield _RENAMED.get(key, key), _text(value)
        else:
            raise PackageError(
                f"Triton's onnxruntime backend has no key for {name}'s option {key}", hint="build without it"
            )


def cuda_parameters(providers: Providers) -> dict[str, str]:
    """The options of CUDA that are said among the parameters of the model."""
    options = next((options for name, options in providers if name == "cuda"), {})
    return {
        key: numbers.get(_text(options[key]), _text(options[key]))
        for key, numbers in _AMONG_PARAMETERS.items()
        if key in options
    }


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
