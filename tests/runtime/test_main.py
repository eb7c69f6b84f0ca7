"""`python -m modelbuild.runtime`: check a package from a shell, and run it on arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelbuild.runtime.__main__ import main


def test_it_checks_and_prints_what_it_found(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(package)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["package"], found["healthy"], found["providers"]) == ("tiny", True, ["CPUExecutionProvider"])
    assert found["outputs"] == [{"graph": "model", "output": "states", "worst": 0.0, "limit": pytest.approx(39 / 8e3)}]


def test_it_times_the_golden_inputs(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(package), "--time"]) == 0
    found = json.loads(capsys.readouterr().out)
    figures = found["golden"]["model"]
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
    assert figures["runs"] == 200
    assert {"machine", "processor", "cores", "onnxruntime"} <= found["host"].keys()


def test_it_runs_arrays_from_a_file(package: Path, tmp_path: Path, embeddings: np.ndarray) -> None:
    ids, mask = np.array([[1, 2]], np.int32), np.array([[1, 0]])
    np.savez(tmp_path / "in.npz", input_ids=ids, attention_mask=mask)
    assert main([str(package), "--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["states"], embeddings[ids] * mask[..., None])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 6, "error[PKG]: no such folder: nowhere"),
        (["{package}", "--providers", "cuda"], 7, "CUDAExecutionProvider is not available"),
        (["{package}", "--inputs", "in.npz"], 2, "--inputs and --outputs belong together"),
        (["{package}", "--graph", "model"], 2, "--graph says which graph runs --inputs"),
        (["{package}", "--inputs", "other.npz", "--outputs", "other.npz"], 2, "--outputs would overwrite --inputs"),
        (["{package}", "--inputs", "other.npz", "--outputs", "."], 2, "it is no file: ."),
        (["{package}", "--inputs", "other.npz", "--outputs", "no/out.npz"], 2, "no such folder: no"),
        (["{package}", "--deep"], 2, "unrecognized arguments: --deep"),
        (["{package}", "--providers", ""], 7, "there is no provider ''"),
        (["{package}", "--inputs", "one.npy", "--outputs", "out.npz"], 1, "one array without a name: one.npy"),
        (["{package}", "--inputs", "empty", "--outputs", "out.npz"], 1, "no arrays can be read"),
        (["{package}", "--inputs", "nowhere.npz", "--outputs", "out.npz"], 1, "no such file: nowhere.npz"),
        (["{package}", "--inputs", "text", "--outputs", "out.npz"], 1, "no arrays can be read"),
        (["{package}", "--inputs", "other.npz", "--outputs", "out.npz"], 1, "unknown input 'input_id': did you mean"),
        (["registry:tiny"], 7, "no registry is known"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], code: int, said: str, package: Path, workspace: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("MODELBUILD_REGISTRY", raising=False)
    Path("text").write_text("no arrays")
    Path("empty").touch()
    np.save("one.npy", np.array([[1]]))
    np.savez("other.npz", input_id=np.array([[1]]))
    assert main([word.replace("{package}", str(package)) for word in words]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("out.npz").exists()
