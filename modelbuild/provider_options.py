"""Options of execution providers, by ONNX Runtime's own names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelbuild.strict import Strict


class CpuOptions(Strict):
    """The CPU provider has no options of its own: threads and arena belong to the session."""


class CudaOptions(Strict):
    """Options of CUDAExecutionProvider, by ONNX Runtime's own names."""

    device_id: Annotated[int, Field(ge=0)] = 0
    gpu_mem_limit: Annotated[int, Field(gt=0)] | None = None
    arena_extend_strategy: Literal["kNextPowerOfTwo", "kSameAsRequested"] = "kNextPowerOfTwo"
    cudnn_conv_algo_search: Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"] = "EXHAUSTIVE"
    do_copy_in_default_stream: bool = True
    use_tf32: bool = False
    enable_cuda_graph: bool = False


class TensorrtOptions(Strict):
    """Options of TensorrtExecutionProvider, by ONNX Runtime's own names."""

    device_id: Annotated[int, Field(ge=0)] = 0
    trt_fp16_enable: bool = False
    trt_max_workspace_size: Annotated[int, Field(gt=0)] = 1 << 30
    trt_engine_cache_enable: bool = False
    trt_timing_cache_enable: bool = False
    trt_builder_optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
