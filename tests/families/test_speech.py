"""Packages of models that hear, opened with Optimum in a process of its own, write what PyTorch does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from families.building import FAST, build
from families.opened import answers
from families.seq2seq_defects import Defect, forget_new_tokens, planted, swap_cross_attention
from families.seq2seq_folders import MELS, SAMPLING_RATE, save_whisper, waveform
from families.subjects import subjects_of

from modelbuild.checks import decoding, features, generation
from modelbuild.checks.numbers import compare_all
from modelbuild.checks.runs import Runs
from modelbuild.checks.subject import Subject
from modelbuild.errors import ExportError, InputError
from modelbuild.report import Check
from modelbuild.runtime.load import load

pytestmark = pytest.mark.slow

_SHARED = """
import json
from transformers import AutoFeatureExtractor, AutoTokenizer

waves, rate = [np.asarray(given["one"]), np.asarray(given["other"])], int(given["rate"])
tokenizer, extractor = AutoTokenizer.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": 32, "no_repeat_ngram_size": 1}

def ask(model, pipeline, answers):
    for name, chosen in (("single", waves[:1]), ("batch", waves)):
        features = extractor(chosen, sampling_rate=rate, return_tensors="pt").input_features
        for language in ("en", "de"):
            made = model.generate(features, language=language, task="transcribe", **greedy)
            answers[f"{name} {language}"] = made.numpy()
    pipe = pipeline(model=model, tokenizer=tokenizer, feature_extractor=extractor)
    heard = pipe({"raw": waves[0], "sampling_rate": rate}, generate_kwargs={"language": "de", **greedy})
    answers["pipeline"] = json.dumps(heard)
"""
_OPTIMUM = """
from optimum.onnxruntime import ORTModelForSpeechSeq2Seq
from optimum.pipelines import pipeline

model = ORTModelForSpeechSeq2Seq.from_pretrained(folder)
assert model.decoder_with_past is not None
ask(model, lambda **parts: pipeline("automatic-speech-recognition", accelerator="ort", **parts), answers)
"""


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint and, in `build`, every stage's output."""
    folder = tmp_path_factory.mktemp("whisper")
    source, scratch = folder / "source", folder / "build"
    source.mkdir()
    scratch.mkdir()
    save_whisper(source)
    build(scratch, "model=path", f"model.source.path={source}", *FAST)
    return folder


def test_optimum_writes_what_pytorch_hears_and_so_does_the_pipeline(whisper: Path, tmp_path: Path) -> None:
    source, package = whisper / "source", whisper / "build" / "package"
    given = {"one": waveform(), "other": waveform(0.4)[::-1].copy(), "rate": SAMPLING_RATE}
    expected = _of_pytorch(source, given)
    found = answers(_SHARED + _OPTIMUM, package, tmp_path, **given)
    assert set(found) == set(expected)
    for name in set(expected) - {"pipeline"}:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].shape[1] > 20
    assert json.loads(str(found["pipeline"])) == json.loads(str(expected["pipeline"]))
    assert not np.array_equal(expected["single en"], expected["single de"])


def _of_pytorch(source: Path, given: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {"folder": source, "given": given, "np": np}
    exec(_SHARED, names)
    found: dict[str, Any] = {}
    model = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(source).eval()
    names["ask"](
        model, lambda **parts: transformers.pipeline("automatic-speech-recognition", device="cpu", **parts), found
    )
    return found


def test_a_spectrogram_of_another_number_of_mels_is_refused(whisper: Path) -> None:
    features = np.zeros((1, 80, 100), dtype=np.float32)
    with pytest.raises(InputError, match=f"input_features: axis 1 must be {MELS}, got 80"):
        load(whisper / "build" / "package").run({"input_features": features}, graph="encoder_model")


def test_settings_that_are_not_the_originals_fail(whisper: Path, tmp_path: Path) -> None:
    changes = {
        "preprocessor_config.json": {"feature_size": 80},
        "generation_config.json": {"suppress_tokens": [3, 1000], "lang_to_id": {"<|en|>": 1}},
        "config.json": {"decoder_start_token_id": 4},
    }
    sidecar = tmp_path / "sidecar"
    shutil.copytree(whisper / "build" / "sidecar", sidecar)
    for name, changed in changes.items():
        given = json.loads((sidecar / name).read_text(encoding="utf-8"))
        (sidecar / name).write_text(json.dumps(given | changed), encoding="utf-8")
    right, wrong = subjects_of(whisper), subjects_of(whisper, sidecar=sidecar)
    assert all(check.passed for check in _of_files(right))
    failed = {check.name: check.where for check in _of_files(wrong) if not check.passed}
    assert set(failed) == {"feature extractor", "generation config", "config generation"}
    assert "it makes (80, 100) of any sound, and the graph takes (8, 100)" in failed["feature extractor"]
    assert "suppress_tokens: 1000 is not in the vocabulary" in failed["generation config"]
    assert "lang_to_id" in failed["generation config"]


def _of_files(subjects: Mapping[str, Subject]) -> list[Check]:
    return [*features.examine(subjects["encoder_model"]), *generation.examine(subjects["decoder_model"])]


def test_a_feature_extractor_that_cannot_be_read_fails(whisper: Path, tmp_path: Path) -> None:
    sidecar = tmp_path / "sidecar"
    shutil.copytree(whisper / "build" / "sidecar", sidecar)
    (sidecar / "preprocessor_config.json").write_text("{", encoding="utf-8")
    (found,) = features.examine(subjects_of(whisper, sidecar=sidecar)["encoder_model"])
    assert not found.passed
    assert found.where.startswith("the feature extractor cannot be used: ")


@pytest.mark.parametrize("defect", [swap_cross_attention, forget_new_tokens], ids=["swapped", "forgotten"])
def test_a_decoder_that_is_wrong_with_its_cache_fails(defect: Defect, whisper: Path, tmp_path: Path) -> None:
    wrong = planted(whisper / "build" / "export", "decoder_with_past_model", defect, tmp_path / "wrong")
    runs = {graph: Runs(subject) for graph, subject in subjects_of(whisper, optimize=wrong).items()}
    for each in runs.values():
        compare_all(each)  # which sees what is usual
    failed = {check.name for check in decoding.examine(runs) if not check.passed}
    assert {"decoding scores", "decoding recompute"} <= failed


def test_a_model_that_hears_needs_its_feature_extractor(tmp_path: Path) -> None:
    save_whisper(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ExportError, match="no feature extractor files"):
        build(tmp_path, "model=path", f"model.source.path={tmp_path}", *FAST)
