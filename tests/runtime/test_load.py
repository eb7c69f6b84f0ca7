from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from modelbuild.errors import HostError, InputError, PackageError
from modelbuild.manifest import FILE_NAME, read_manifest, write_manifest
from modelbuild.package_files import record_files
from modelbuild.runtime import load
from modelbuild.runtime.cores import instruction_set
from modelbuild.runtime.selfcheck import GOLDEN_FILE

CPU = "CPUExecutionProvider"
IDS, MASK = np.array([[4, 5], [6, 7]]), np.array([[1, 1], [0, 1]])


def change_manifest(package: Path, **changes: Any) -> None:
    write_manifest(replace(read_manifest(package), **changes), package)


def change_graph(package: Path, **changes: Any) -> None:
    """Change what the manifest says of the one graph; its files are recorded anew."""
    graph = replace(read_manifest(package).graphs["model"], **changes)
    change_manifest(package, graphs={"model": graph}, files=record_files(package))


def change_golden(package: Path, changes: dict[str, Any], drop: str = "") -> None:
    """Another golden file that the manifest agrees with."""
    with np.load(package / GOLDEN_FILE) as golden:
        arrays = {name: golden[name] for name in golden.files if name != drop}
    np.savez(package / GOLDEN_FILE, **(arrays | changes))
    change_manifest(package, files=record_files(package))


def golden_states(package: Path) -> np.ndarray:
    with np.load(package / GOLDEN_FILE) as golden:
        return np.asarray(golden["model/output.states"])


def flip_last_weight(package: Path) -> None:
    content = bytearray((package / "model.onnx").read_bytes())
    at = content.rindex(np.float32(39 / 8).tobytes())
    content[at + 2] ^= 1
    (package / "model.onnx").write_bytes(content)


def test_a_package_loads_and_runs(package: Path, embeddings: np.ndarray) -> None:
    model = load(package)
    outputs = model.run({"input_ids": IDS, "attention_mask": MASK})
    assert list(outputs) == ["states"]
    assert np.array_equal(outputs["states"], embeddings[IDS] * MASK[..., None])
    assert model.providers == [CPU]
    assert model.manifest == read_manifest(package)


def test_a_path_may_be_text_and_relative(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package.parent)
    assert load("package").manifest.name == "tiny"


def test_threads_share_a_model_and_get_their_own_outputs(package: Path, embeddings: np.ndarray) -> None:
    model = load(package)
    rng = np.random.default_rng(0)
    requests = [rng.integers(0, 10, (1 + number % 5, 1 + number % 8)) for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda ids: model.run({"input_ids": ids, "attention_mask": np.ones_like(ids)}), requests)
        for ids, outputs in zip(requests, answers, strict=True):
            assert np.array_equal(outputs["states"], embeddings[ids])


def test_wrong_inputs_are_refused_by_the_signature_and_the_limits(package: Path) -> None:
    model = load(package)
    with pytest.raises(InputError, match="unknown input 'ids'"):
        model.run({"ids": IDS})
    with pytest.raises(InputError, match="sequence is 9, and the model takes at most 8"):
        model.run({"input_ids": np.ones((1, 9), dtype=np.int64), "attention_mask": np.ones((1, 9), dtype=np.int64)})


def test_a_model_that_was_damaged_is_refused(package: Path) -> None:
    flip_last_weight(package)
    with pytest.raises(PackageError, match=r"model\.onnx has another content"):
        load(package)


def test_without_verify_digests_and_golden_inputs_are_not_looked_at(package: Path) -> None:
    change_golden(package, {"model/output.states": golden_states(package) + 1})
    flip_last_weight(package)
    assert load(package, verify=False).manifest.name == "tiny"


def test_without_verify_a_file_of_another_size_is_refused_still(package: Path) -> None:
    os.truncate(package / "model.onnx", (package / "model.onnx").stat().st_size - 1)
    with pytest.raises(PackageError, match=r"model\.onnx has \d+ bytes instead of \d+"):
        load(package, verify=False)


def test_a_file_that_was_added_is_refused(package: Path) -> None:
    (package / "notes.txt").touch()
    with pytest.raises(PackageError, match=r"notes\.txt does not belong to it"):
        load(package)


@pytest.mark.parametrize("change", [0.05, np.nan, np.inf])
def test_outputs_that_are_not_the_golden_ones_are_refused(change: float, package: Path) -> None:
    states = golden_states(package)
    states[0, 2, 3] += change
    change_golden(package, {"model/output.states": states})
    with pytest.raises(PackageError, match="self-check failed: states differs by"):
        load(package)


def test_outputs_may_differ_by_a_share_of_the_largest_value(package: Path) -> None:
    states = golden_states(package)
    limit = 1e-3 * np.max(states)
    for share, accepted in ((0.9, True), (1.1, False)):
        change_golden(package, {"model/output.states": states + np.float32(share * limit)})
        if accepted:
            load(package)
        else:
            with pytest.raises(PackageError, match="self-check failed"):
                load(package)


def test_small_outputs_are_compared_on_their_own_scale(package: Path, embeddings: np.ndarray) -> None:
    golden = {"model/input.input_ids": np.array([[0]]), "model/input.attention_mask": np.array([[1]])}
    states = embeddings[[[0]]]
    share = float(np.abs(states).max())
    assert share < 1
    change_golden(package, {**golden, "model/output.states": states + np.float32(0.9e-3 * share)})
    load(package)
    change_golden(package, {**golden, "model/output.states": states + np.float32(1.2e-3 * share)})
    with pytest.raises(PackageError, match="self-check failed: states differs by"):
        load(package)


@pytest.mark.parametrize(
    ("drop", "changes"),
    [
        ("model/output.states", {}),
        ("model/input.input_ids", {}),
        ("", {"model/input.input_ids": np.ones((1, 9), dtype=np.int64)}),
        ("", {"model/input.input_ids": np.full((2, 3), 999)}),
        ("", {"model/input.other": np.ones(1)}),
        ("", {"pickled": np.array([{}], dtype=object)}),
        ("", {"model/output.states": np.zeros((1, 1, 1), dtype=np.float32)}),
        ("", {"model/output.states": np.zeros((2, 3, 5), dtype=np.float32)}),
    ],
)
def test_a_golden_file_that_does_not_fit_the_model_is_refused(
    drop: str, changes: dict[str, Any], package: Path
) -> None:
    change_golden(package, changes, drop)
    with pytest.raises(PackageError, match="self-check failed"):
        load(package)


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_a_golden_file_that_cannot_be_read_is_refused(content: bytes | None, package: Path) -> None:
    (package / GOLDEN_FILE).unlink()
    if content is not None:
        (package / GOLDEN_FILE).write_bytes(content)
    change_manifest(package, files=record_files(package))
    with pytest.raises(PackageError, match=r"self-check failed: golden\.npz .*: /.*/package: build the package again"):
        load(package)
    load(package, verify=False)


def test_an_older_onnxruntime_is_refused_before_the_model_is_opened(package: Path) -> None:
    (package / "model.onnx").write_bytes(b"of another time")
    change_graph(package, oldest_onnxruntime="99.0")
    with pytest.raises(
        PackageError, match=rf"onnxruntime {ort.__version__} is older than the 99\.0 .*: /.*/package: upgrade"
    ):
        load(package, verify=False)


def test_releases_are_compared_as_numbers(package: Path) -> None:
    here = ort.__version__.split(".")
    change_graph(package, oldest_onnxruntime=".".join(here[:2]))
    load(package)
    change_graph(package, oldest_onnxruntime="1.9")
    load(package)
    change_graph(package, oldest_onnxruntime=f"{here[0]}.{int(here[1]) + 1}")
    with pytest.raises(PackageError, match="is older than"):
        load(package)


def test_what_is_not_a_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"not a package: it has no manifest\.json"):
        load(tmp_path)


def test_a_model_outside_the_package_is_not_opened(package: Path) -> None:
    text = (package / FILE_NAME).read_text()
    (package / FILE_NAME).write_text(text.replace('"file": "model.onnx"', '"file": "../model.onnx"'))
    with pytest.raises(PackageError, match="is not one of its files"):
        load(package, verify=False)


@pytest.mark.parametrize("provider", ["cpu", CPU, ("cpu", {})])
def test_providers_may_be_names_of_either_kind_or_have_options(provider: Any, package: Path) -> None:
    change_manifest(package, providers=(("tensorrt", {}),))
    assert load(package, providers=[provider]).providers == [CPU]


@pytest.mark.skipif("TensorrtExecutionProvider" in ort.get_available_providers(), reason="TensorRT may load here")
def test_the_providers_of_the_manifest_are_a_contract_unless_it_allows_another(package: Path) -> None:
    change_manifest(package, providers=(("tensorrt", {"trt_fp16_enable": False}), ("cpu", {})))
    with pytest.raises(HostError, match="TensorrtExecutionProvider is not available"):
        load(package)
    change_manifest(package, allow_fallback=True)
    assert load(package).providers == [CPU]


def test_session_settings_replace_those_of_the_manifest(package: Path) -> None:
    change_manifest(package, session={"graph_optimization_level": "nonsense"})
    with pytest.raises(PackageError, match="no such level or mode: nonsense"):
        load(package)
    load(package, session={"graph_optimization_level": "none"})
    with pytest.raises(InputError, match="there is no session setting 'threads': session: choose one of"):
        load(package, session={"graph_optimization_level": "none", "threads": 2})


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ([("cpu", {"foo": 1})], "CPUExecutionProvider has no option 'foo'"),
        (["CPUExecutionProvider", ("cuda", {"device": 0})], "CUDAExecutionProvider has no option 'device'"),
        ([("cuda", {"device_id": -1})], "there is no device -1"),
        ("CudaExecutionProvider", "there is no provider 'CudaExecutionProvider': did you mean 'cuda'"),
        ("gpu", "there is no provider 'gpu': did you mean 'cuda'"),
    ],
)
def test_providers_and_options_that_do_not_exist_are_refused(providers: Any, message: str, package: Path) -> None:
    with pytest.raises(HostError, match=message):
        load(package, providers=providers)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"session": "latency"}, "a mapping of settings is wanted, got 'latency': session"),
        ({"session": {"intra_op_num_threads": -4}}, "its intra_op_num_threads is -4: session: 0, which leaves"),
        ({"session": {"intra_op_num_threads": 2**31}}, "its intra_op_num_threads is 2147483648"),
        ({"session": {"intra_op_num_threads": "one"}}, "its intra_op_num_threads is 'one': session: threads are whole"),
        ({"session": {"config_entries": {"k": 1}}}, "config_entries has 'k': 1: session: both are texts"),
        ({"session": {"config_entries": {"": "1"}}}, "config_entries has '': '1'"),
        ({"providers": ("cpu", {})}, "are no providers: give a name, a list of names, or of pairs"),
        ({"providers": [("cpu",)]}, "are no providers"),
        ({"providers": [5]}, "are no providers"),
        ({"providers": 5}, "5 are no providers"),
        ({"providers": [("cpu", None)]}, "are no providers"),
        ({"slow_s": "1"}, "slow_s is '1', and must be seconds"),
        ({"slow_s": -1}, "slow_s is -1, and must be seconds"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_named(options: dict[str, Any], said: str, package: Path) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        load(package, **options)


def test_a_provider_that_is_named_is_not_left_out_because_the_package_allows_it(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_manifest(package, providers=(("cuda", {}),), allow_fallback=True)
    with caplog.at_level("WARNING", logger="modelbuild.runtime"):
        assert load(package).providers == ["CPUExecutionProvider"]
    assert "model.onnx runs on CPUExecutionProvider, and not on CUDAExecutionProvider" in caplog.text
    with pytest.raises(HostError, match="CUDAExecutionProvider is not available"):
        load(package, providers="cuda")
    assert load(package, providers="cuda", allow_fallback=True).providers == ["CPUExecutionProvider"]
    with pytest.raises(HostError, match="no provider is given"):
        load(package, providers=[])


def test_a_model_does_not_choose_how_it_runs(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    with pytest.raises(HostError, match="ORT_LOAD_CONFIG_FROM_MODEL lets a model choose how it runs: unset it"):
        load(package)


def test_a_file_that_goes_away_meanwhile_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "model.onnx")

    monkeypatch.setattr("modelbuild.package_files.sha256_file", gone)
    with pytest.raises(PackageError, match=r"model\.onnx went away while it was read"):
        load(package)


def test_weights_that_lie_as_another_machine_wants_them_are_refused(package: Path) -> None:
    graph = read_manifest(package).graphs["model"]
    for tied in ("sparc", f"{instruction_set()} and more"):
        change_manifest(package, graphs={"model": replace(graph, tied_to=tied)})
        with pytest.raises(PackageError, match=f"its weights lie as {tied} wants them, and this machine is"):
            load(package)
    change_manifest(package, graphs={"model": replace(graph, tied_to=instruction_set())})
    load(package)


def test_a_package_that_was_not_proven_is_warned_of(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="modelbuild.runtime"):
        load(package)
        assert not caplog.records
        change_manifest(package, verified=False)
        load(package)
    assert "tiny was not proven to compute what its original does" in caplog.text
