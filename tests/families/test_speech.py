"""Packages of models that hear, opened with Optimum in a process of its own, write what PyTorch does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from families.building import FAST, build
from families.opened import answers
from families.seq2seq_folders import MELS, SAMPLING_RATE, save_whisper, waveform

from modelbuild.errors import ExportError, InputError
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


def test_optimum_writes_what_pytorch_hears_and_so_does_the_pipeline(tmp_path: Path) -> None:
    source, scratch = tmp_path / "source", tmp_path / "build"
    source.mkdir()
    scratch.mkdir()
    save_whisper(source)
    package = build(scratch, "model=path", f"model.source.path={source}", *FAST)
    given = {"one": waveform(), "other": waveform(0.4)[::-1].copy(), "rate": SAMPLING_RATE}
    expected = _of_pytorch(source, given)
    found = answers(_SHARED + _OPTIMUM, package, tmp_path, **given)
    assert set(found) == set(expected)
    for name in set(expected) - {"pipeline"}:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].shape[1] > 20
    assert json.loads(str(found["pipeline"])) == json.loads(str(expected["pipeline"]))
    assert not np.array_equal(expected["single en"], expected["single de"])
    with pytest.raises(InputError, match=f"input_features: axis 1 must be {MELS}, got 80"):
        load(package).run({"input_features": np.zeros((1, 80, 100), dtype=np.float32)}, graph="encoder_model")


def _of_pytorch(source: Path, given: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {"folder": source, "given": given, "np": np}
    exec(_SHARED, names)
    found: dict[str, Any] = {}
    model = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(source).eval()
    names["ask"](
        model, lambda **parts: transformers.pipeline("automatic-speech-recognition", device="cpu", **parts), found
    )
    return found


def test_a_model_that_hears_needs_its_feature_extractor(tmp_path: Path) -> None:
    save_whisper(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ExportError, match="no feature extractor files"):
        build(tmp_path, "model=path", f"model.source.path={tmp_path}", *FAST)
