from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import onnxruntime as ort
import pytest

from modelbuild.errors import HostError
from modelbuild.preflight import _content, _does_not_load, _stderr_into, require_host
from modelbuild.spec import ProviderName, Providers

CPU_ONLY = ["CPUExecutionProvider"]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_host_with_one_onnxruntime_is_fit_for_cpu(scratch: Path) -> None:
    require_host(Providers(order=("cpu",)))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("order", "missing", "needs"),
    [
        (("cuda", "cpu"), "CUDAExecutionProvider", "onnxruntime-gpu.*cuDNN"),
        (("cpu", "cuda"), "CUDAExecutionProvider", "onnxruntime-gpu.*cuDNN"),
        (("tensorrt", "cuda", "cpu"), "TensorrtExecutionProvider", "onnxruntime-gpu.*TensorRT"),
    ],
)
def test_a_provider_that_is_not_there_is_a_host_error_that_names_what_is_missing(
    order: tuple[ProviderName, ...], missing: str, needs: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", CPU_ONLY.copy)
    with pytest.raises(HostError, match=f"{missing} is not available: .*CPUExecutionProvider.*{needs}") as caught:
        require_host(Providers(order=order))
    assert caught.value.exit_code == 7
    assert list(scratch.iterdir()) == []


def test_a_second_provider_that_is_not_there_is_a_host_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", ["CUDAExecutionProvider", *CPU_ONLY].copy)
    with pytest.raises(HostError, match="TensorrtExecutionProvider is not available"):
        require_host(Providers(order=("cuda", "tensorrt", "cpu")))


def test_with_allow_fallback_a_provider_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", CPU_ONLY.copy)
    require_host(Providers(order=("cuda", "cpu"), allow_fallback=True))


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA may load here")
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_is_listed_and_does_not_load_is_a_host_error(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", ["CUDAExecutionProvider", *CPU_ONLY].copy)
    with pytest.raises(HostError, match="CUDAExecutionProvider was asked for and ONNX Runtime opened CPUExec"):
        require_host(Providers(order=("cuda", "cpu")))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("allow_fallback", [True, False])
def test_both_wheels_at_once_are_a_host_error(
    allow_fallback: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-1.31.1.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(
        HostError,
        match=r"both installed, .*: this Python environment: pip uninstall both, then install modelbuild\[cpu\]",
    ):
        require_host(Providers(order=("cpu",), allow_fallback=allow_fallback))


def test_no_wheel_at_all_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "onnxruntime").is_dir()])
    with pytest.raises(
        HostError, match=r"ONNX Runtime is not installed: this Python environment: pip install 'modelbuild\[cpu\]'"
    ):
        require_host(Providers(order=("cpu",)))


def test_the_library_that_a_provider_misses_is_in_the_error_and_the_rest_of_the_log_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        with _stderr_into(log):
            os.write(2, b"[E:onnxruntime] Failed to load library cuda.so with error: libx.so.13: no such file\nmore\n")
        os.write(2, b"after")
        said = HostError("CUDA was asked for and the CPU opened", where="probe.onnx", hint="install it")
        error = _does_not_load(Providers(order=("cuda", "cpu")), said, _content(log))
    assert str(error).startswith(
        "CUDA was asked for and the CPU opened: this machine (libx.so.13: no such file): CUDAExecutionProvider needs "
    )
    assert "cuDNN; or choose providers=cpu" in str(error)
    assert capfd.readouterr().err == "after"
    assert ": this machine: " in str(_does_not_load(Providers(order=("cuda",)), said, "nothing of use"))
