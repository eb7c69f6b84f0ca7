from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from modelbuild.errors import HostError, PackageError
from modelbuild.runtime import session
from modelbuild.runtime.session import (
    ProviderChoice,
    SessionSettings,
    open_session,
    require_available,
    session_options,
)
from modelbuild.spec import Session

CPU, CUDA, TENSORRT = ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider")
ONE_THREAD = SessionSettings(intra_op_num_threads=1)


@pytest.fixture
def cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", [CPU].copy)


def test_settings_reach_onnxruntime() -> None:
    options = session_options(SessionSettings())
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert (options.enable_mem_pattern, options.enable_cpu_mem_arena) == (True, True)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    changed = session_options(
        SessionSettings(
            execution_mode="parallel",
            graph_optimization_level="none",
            enable_mem_pattern=False,
            enable_cpu_mem_arena=False,
            allow_spinning=False,
            config_entries={"session.set_denormal_as_zero": "1"},
        )
    )
    assert changed.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert changed.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (changed.enable_mem_pattern, changed.enable_cpu_mem_arena) == (False, False)
    assert changed.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert changed.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert changed.get_session_config_entry("session.set_denormal_as_zero") == "1"


@pytest.mark.parametrize(("level", "value"), [("basic", "ORT_ENABLE_BASIC"), ("extended", "ORT_ENABLE_EXTENDED")])
def test_levels_are_those_of_onnxruntime(level: str, value: str) -> None:
    options = session_options(SessionSettings(graph_optimization_level=level))
    assert options.graph_optimization_level.name == value


def test_settings_are_the_session_group_with_the_same_defaults() -> None:
    assert [item.name for item in fields(SessionSettings)] == list(Session().settings())
    assert SessionSettings.from_mapping(Session().settings()) == SessionSettings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": 1, "arena": 2}, "there is no session setting .arena.: session: choose one of"),
        ({"graph_optimization_level": "99"}, "no such level or mode: 99"),
        ({"execution_mode": "fast"}, "no such level or mode: all, fast"),
    ],
)
def test_settings_that_do_not_exist_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PackageError, match=message):
        SessionSettings.from_mapping(values)


def test_an_open_session_runs(model_file: Path, embeddings: np.ndarray) -> None:
    opened = open_session(model_file, providers=[("cpu", {})], settings=ONE_THREAD)
    (states,) = opened.run(None, {"input_ids": np.array([[3]]), "attention_mask": np.array([[1]])})
    assert np.array_equal(states, embeddings[[[3]]])
    assert opened.get_providers() == [CPU]


@pytest.mark.skipif("AzureExecutionProvider" not in ort.get_available_providers(), reason="a second provider is needed")
def test_a_session_has_the_providers_that_were_asked_for_in_order(model_file: Path) -> None:
    opened = open_session(model_file, providers=[("AzureExecutionProvider", {}), ("cpu", {})], settings=ONE_THREAD)
    assert opened.get_providers() == ["AzureExecutionProvider", CPU]


def test_options_reach_onnxruntime_as_it_spells_them() -> None:
    options = {"use_tf32": False, "do_copy_in_default_stream": True, "device_id": 1, "arena_extend_strategy": "x"}
    assert list(session._as_strings(options).values()) == ["0", "1", "1", "x"]


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cuda", "cpu"), f"{CUDA} is not available: .* has {CPU}: it needs .*onnxruntime-gpu"),
        (("cpu", "tensorrt"), f"{TENSORRT} is not available: .*TensorRT; or choose providers=cpu"),
        (("OpenVINOExecutionProvider",), "OpenVINOExecutionProvider is not available: .*another build"),
    ],
)
def test_a_provider_that_is_not_there_is_a_host_error(names: tuple[str, ...], message: str, model_file: Path) -> None:
    with pytest.raises(HostError, match=message):
        open_session(model_file, providers=[(name, {}) for name in names], settings=ONE_THREAD)
    with pytest.raises(HostError, match=message):
        require_available(names)


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="CUDA may load here")
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_fallback_that_was_not_asked_for_is_a_host_error(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", [CUDA, CPU].copy)
    choices = [("cuda", {"use_tf32": False}), ("cpu", {})]
    with pytest.raises(
        HostError, match=rf"{CUDA} was asked for and ONNX Runtime opened {CPU} instead: model\.onnx: it needs .*cuDNN"
    ):
        open_session(model_file, providers=choices, settings=ONE_THREAD)
    opened = open_session(model_file, providers=choices, settings=ONE_THREAD, allow_fallback=True)
    assert opened.get_providers() == [CPU]


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize("names", [("cuda", "cpu"), ("tensorrt", "cuda")])
def test_a_fallback_that_was_asked_for_opens_on_what_is_there(names: tuple[str, ...], model_file: Path) -> None:
    choices: list[ProviderChoice] = [(name, {}) for name in names]
    opened = open_session(model_file, providers=choices, settings=ONE_THREAD, allow_fallback=True)
    assert opened.get_providers() == [CPU]


@pytest.mark.parametrize("allow_fallback", [True, False])
@pytest.mark.parametrize(
    ("names", "message"),
    [(("cdua", "cpu"), "no provider 'cdua': did you mean 'cuda'"), ((), "no provider is given: choose providers=cpu")],
)
def test_a_provider_that_does_not_exist_is_never_replaced(
    names: tuple[str, ...], message: str, allow_fallback: bool, model_file: Path
) -> None:
    choices: list[ProviderChoice] = [(name, {}) for name in names]
    with pytest.raises(HostError, match=message):
        open_session(model_file, providers=choices, settings=ONE_THREAD, allow_fallback=allow_fallback)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CudaExecutionProvider", "did you mean 'cuda'"),
        ("gpu", "did you mean 'cuda'"),
        ("trt", "did you mean 'tensorrt'"),
        ("CPUExecutionProvidr", "did you mean 'CPUExecutionProvider'"),
    ],
)
def test_a_provider_that_is_called_otherwise_gets_its_name(name: str, message: str, model_file: Path) -> None:
    with pytest.raises(HostError, match=f"there is no provider '{name}': {message}"):
        open_session(model_file, providers=[(name, {})], settings=ONE_THREAD)


@pytest.mark.parametrize("allow_fallback", [True, False])
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cpu", {"foo": 1}, f"{CPU} has no option 'foo': it has none; threads and arena belong to the session"),
        (CPU, {"use_arena": True}, f"{CPU} has no option 'use_arena'"),
        ("cuda", {"use_tf23": 0}, f"{CUDA} has no option 'use_tf23': did you mean 'use_tf32'"),
        ("cuda", {"trt_fp16_enable": True}, f"{CUDA} has no option 'trt_fp16_enable'"),
        ("tensorrt", {"fp16_enable": True}, f"{TENSORRT} has no option 'fp16_enable': did you mean 'trt_fp16_enable'"),
        ("cuda", {"device_id": -1}, f"there is no device -1: {CUDA}: device_id is 0, 1, 2"),
        ("tensorrt", {"device_id": "gpu0"}, f"there is no device 'gpu0': {TENSORRT}"),
    ],
)
def test_an_option_that_a_provider_has_not_is_refused_before_the_provider_is_looked_for(
    name: str, options: dict[str, Any], message: str, allow_fallback: bool, model_file: Path
) -> None:
    with pytest.raises(HostError, match=message):
        open_session(model_file, providers=[(name, options)], settings=ONE_THREAD, allow_fallback=allow_fallback)


def test_a_session_that_cannot_open_as_asked_is_no_damaged_file(model_file: Path) -> None:
    wrong = SessionSettings(intra_op_num_threads=3, config_entries={"session.intra_op_thread_affinities": "nonsense"})
    with pytest.raises(
        HostError, match=rf"no session on {CPU} with these settings: .*: model\.onnx: .* the model opens"
    ):
        open_session(model_file, providers=[("cpu", {})], settings=wrong)


def test_a_profile_is_written_where_it_is_asked_for(model_file: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "mine"
    opened = open_session(model_file, providers=[("cpu", {})], settings=ONE_THREAD, profile_prefix=prefix)
    assert Path(opened.end_profiling()).name.startswith("mine_")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_onnxruntime_cannot_open_is_a_package_error(
    content: bytes | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(
        PackageError, match=r"ONNX Runtime cannot open the model: .*: bad\.onnx: see the mess"
    ) as caught:
        open_session(tmp_path / "bad.onnx", providers=[("cpu", {})], settings=ONE_THREAD)
    assert len(caught.value.lines()) == 1
    assert capfd.readouterr() == ("", "")
