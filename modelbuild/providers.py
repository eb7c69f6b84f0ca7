"""Execution providers: one literal table from our short names to ONNX Runtime's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One execution provider: our short `name`, ONNX Runtime's, what a machine needs to have it, and the keys of its
    options.
    """

    name: str
    ort_name: str
    needs: str
    options: frozenset[str]


# The keys in the libraries of the onnxruntime-gpu wheel 1.31.1, without those that take a pointer to data in memory.
_CUDA_OPTIONS = """
device_id gpu_mem_limit arena_extend_strategy cudnn_conv_algo_search do_copy_in_default_stream
cudnn_conv_use_max_workspace cudnn_conv1d_pad_to_nc1d enable_cuda_graph enable_skip_layer_norm_strict_mode prefer_nhwc
use_ep_level_unified_stream tunable_op_enable tunable_op_tuning_enable tunable_op_max_tuning_duration_ms use_tf32
fuse_conv_bias sdpa_kernel has_user_compute_stream user_compute_stream
"""
_TENSORRT_OPTIONS = """
device_id has_user_compute_stream user_compute_stream trt_max_partition_iterations trt_min_subgraph_size
trt_max_workspace_size trt_fp16_enable trt_bf16_enable trt_int8_enable trt_int8_calibration_table_name
trt_int8_use_native_calibration_table trt_dla_enable trt_dla_core trt_engine_cache_enable trt_engine_cache_path
trt_engine_cache_prefix trt_engine_hw_compatible trt_engine_decryption_enable trt_engine_decryption_lib_path
trt_weight_stripped_engine_enable trt_onnx_model_folder_path trt_context_memory_sharing_enable
trt_layer_norm_fp32_fallback trt_timing_cache_enable trt_timing_cache_path trt_force_timing_cache
trt_force_sequential_engine_build trt_detailed_build_log trt_build_heuristics_enable trt_sparsity_enable
trt_builder_optimization_level trt_auxiliary_streams trt_tactic_sources trt_extra_plugin_lib_paths
trt_profile_min_shapes trt_profile_opt_shapes trt_profile_max_shapes trt_cuda_graph_enable trt_dump_subgraphs
trt_dump_ep_context_model trt_ep_context_file_path trt_ep_context_embed_mode trt_op_types_to_exclude
trt_load_user_initializer trt_preview_features
"""


PROVIDERS: dict[str, Provider] = {
    "cpu": Provider(name="cpu", ort_name="CPUExecutionProvider", needs="onnxruntime", options=frozenset()),
    "cuda": Provider(
        name="cuda",
        ort_name="CUDAExecutionProvider",
        needs="the onnxruntime-gpu wheel (modelbuild[gpu] instead of [cpu]), an NVIDIA driver, CUDA and cuDNN",
        options=frozenset(_CUDA_OPTIONS.split()),
    ),
    "tensorrt": Provider(
        name="tensorrt",
        ort_name="TensorrtExecutionProvider",
        needs="the onnxruntime-gpu wheel (modelbuild[gpu] instead of [cpu]), an NVIDIA driver, CUDA, TensorRT",
        options=frozenset(_TENSORRT_OPTIONS.split()),
    ),
}

CPU = PROVIDERS["cpu"].ort_name


def ort_name(name: str) -> str:
    """ONNX Runtime's name of a provider; `name` may be ours (`cuda`) or already ONNX Runtime's."""
    return PROVIDERS[name].ort_name if name in PROVIDERS else name


def needs(name: str) -> str:
    """What a machine needs to have the provider `name`, which may be ours or ONNX Runtime's."""
    full = ort_name(name)
    return next((item.needs for item in PROVIDERS.values() if item.ort_name == full), "another build of ONNX Runtime")


def option_keys(name: str) -> frozenset[str] | None:
    """The keys of the options of the provider `name`; None for one that is not in the table, whose keys nobody knows.

    ONNX Runtime itself accepts any key for the CPU, and for a provider that it then leaves out.
    """
    full = ort_name(name)
    return next((item.options for item in PROVIDERS.values() if item.ort_name == full), None)
