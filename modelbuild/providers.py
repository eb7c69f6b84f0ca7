"""Execution providers: one literal table from our short names to ONNX Runtime's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One execution provider: our short `name`, ONNX Runtime's, and what a machine needs to have it."""

    name: str
    ort_name: str
    needs: str


PROVIDERS: dict[str, Provider] = {
    "cpu": Provider(name="cpu", ort_name="CPUExecutionProvider", needs="onnxruntime"),
    "cuda": Provider(
        name="cuda",
        ort_name="CUDAExecutionProvider",
        needs="the onnxruntime-gpu wheel (modelbuild[gpu] instead of [cpu]), an NVIDIA driver, CUDA and cuDNN",
    ),
    "tensorrt": Provider(
        name="tensorrt",
        ort_name="TensorrtExecutionProvider",
        needs="the onnxruntime-gpu wheel (modelbuild[gpu] instead of [cpu]), an NVIDIA driver, CUDA, TensorRT",
    ),
}

CPU = PROVIDERS["cpu"].ort_name


def ort_name(name: str) -> str:
    """ONNX Runtime's name of a provider; `name` may be ours (`cuda`) or already ONNX Runtime's."""
    return PROVIDERS[name].ort_name if name in PROVIDERS else name
