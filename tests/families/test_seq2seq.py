"""Packages of models that make texts of texts, opened with Optimum in a process of its own, answer as PyTorch does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from families.building import FAST, build
from families.opened import answers
from families.seq2seq_defects import (
    Defect,
    forget_new_tokens,
    ignore_mask,
    planted,
    reverse_position_bias,
    swap_cross_attention,
)
from families.seq2seq_folders import save_bart, save_t5
from families.subjects import subjects_of

from modelbuild.checks import decoding, generation
from modelbuild.checks.numbers import compare_all
from modelbuild.checks.runs import Runs
from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, ExportError, InputError
from modelbuild.pipeline.fingerprint import stage_code
from modelbuild.resolve import resolve
from modelbuild.runtime.load import load
from modelbuild.stage_slices import stage_specs
from modelbuild.tasks import TASKS, TaskName, task_of

pytestmark = pytest.mark.slow

Save = Callable[[Path], torch.nn.Module]
TEXTS = ("The harbour was quiet, and nobody was there.", "Why?", "Every morning the ship came in.")
# What both sides do with a model. No token twice, so that the texts are long ones and say something.
_SHARED = """
import json
from transformers import AutoTokenizer

texts, pipelines = json.loads(str(given["texts"])), json.loads(str(given["pipelines"]))
tokenizer = AutoTokenizer.from_pretrained(folder)
greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": 32, "min_new_tokens": 32, "no_repeat_ngram_size": 1}

def ask(model, pipeline, answers):
    for name, chosen in (("one", texts[:1]), ("batch", texts)):
        encoded = tokenizer(chosen, padding=True, return_tensors="pt", return_token_type_ids=False)
        answers[name] = model.generate(**encoded, **greedy).numpy()
        start = encoded.input_ids[:, :1]
        answers[f"{name} logits"] = model(**encoded, decoder_input_ids=start).logits.detach().numpy()
    for task in pipelines:
        answers[task] = json.dumps(pipeline(task, model, tokenizer)(texts, **greedy))
"""
_OPTIMUM = """
from optimum.onnxruntime import ORTModelForSeq2SeqLM
from optimum.pipelines import pipeline

model = ORTModelForSeq2SeqLM.from_pretrained(folder)
assert model.decoder_with_past is not None
ask(model, lambda task, model, tokenizer: pipeline(task, model=model, tokenizer=tokenizer, accelerator="ort"), answers)
"""


PIPELINES = {"t5": ["text2text-generation", "translation_en_to_de"], "bart": ["summarization"]}


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint and, in `build`, every stage's output."""
    return _built(save_t5, tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a BART."""
    return _built(save_bart, tmp_path_factory.mktemp("bart"))


@pytest.mark.parametrize("name", PIPELINES)
def test_optimum_generates_what_pytorch_does_and_so_do_pipelines(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, pipelines = request.getfixturevalue(name), PIPELINES[name]
    source, package = folder / "source", folder / "build" / "package"
    given = {"texts": json.dumps(TEXTS), "pipelines": json.dumps(pipelines)}
    expected = _of_pytorch(source, given)
    found = answers(_SHARED + _OPTIMUM, package, tmp_path, **given)
    assert set(found) == set(expected)
    for name in ("one", "batch"):
        assert found[name].shape == (len(TEXTS) if name == "batch" else 1, 33)
        np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_allclose(found[f"{name} logits"], expected[f"{name} logits"], atol=1e-4)
    for name in pipelines:
        assert json.loads(str(found[name])) == json.loads(str(expected[name]))


def _built(save: Save, folder: Path) -> Path:
    source, scratch = folder / "source", folder / "build"
    source.mkdir()
    scratch.mkdir()
    save(source)
    build(scratch, "model=path", f"model.source.path={source}", *FAST)
    return folder


def _of_pytorch(source: Path, given: dict[str, str]) -> dict[str, Any]:
    names: dict[str, Any] = {"folder": source, "given": given}
    exec(_SHARED, names)
    found: dict[str, Any] = {}
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(source).eval()
    names["ask"](model, lambda task, model, tokenizer: _pipeline(task, model, tokenizer), found)
    return found


def _pipeline(task: str, model: Any, tokenizer: Any) -> Any:
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")


def test_one_of_the_graphs_has_to_be_named(t5: Path) -> None:
    ids = np.ones((2, 3), dtype=np.int64)
    with pytest.raises(InputError, match="graph must say which one to run"):
        load(t5 / "build" / "package").run({"input_ids": ids, "attention_mask": ids})


def test_a_text_beyond_what_there_is_room_for_is_refused(bart: Path) -> None:
    model = load(bart / "build" / "package")
    ids = np.ones((2, 3), dtype=np.int64)
    states = model.run({"input_ids": ids, "attention_mask": ids}, graph="encoder_model")["last_hidden_state"]
    mine = {"input_ids": ids, "encoder_attention_mask": ids}
    first = model.run(mine | {"encoder_hidden_states": states}, graph="decoder_model")
    past = {name.replace("present.", "past_key_values."): array for name, array in first.items() if name != "logits"}
    assert model.run(mine | past, graph="decoder_with_past_model")["present.0.decoder.key"].shape[2] == 6
    many = np.ones((2, 62), dtype=np.int64)
    with pytest.raises(InputError, match="past and decoder_sequence are 65 together, and the model takes at most 64"):
        model.run(mine | past | {"input_ids": many}, graph="decoder_with_past_model")


def test_a_model_without_an_encoder_makes_no_text_of_texts(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no text2text-generation model for model_type 'bert'"):
        build(tmp_path, "model=bert-tiny", "task=text2text-generation", *FAST)


@pytest.mark.parametrize(
    ("model", "task", "said"),
    [
        ("t5-tiny", "automatic-speech-recognition", "for model_type 't5'"),
        ("whisper-tiny", "text2text-generation", "for model_type 'whisper'"),
    ],
)
def test_a_task_of_others_is_refused(model: str, task: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"transformers has no {task} model {said}"):
        build(tmp_path, f"model={model}", f"task={task}", *FAST)


@pytest.mark.parametrize(
    ("start", "said"),
    [("null", "config.json has no decoder_start_token_id"), ("128", "the vocabulary has 128 tokens")],
)
def test_a_text_has_to_begin_with_a_token(start: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=said):
        build(tmp_path, "model=t5-tiny", f"model.source.config.decoder_start_token_id={start}", *FAST)


def test_an_exporter_of_one_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exporter=optimum does not make the graphs for text2text-gen.*=dynamo"):
        build(tmp_path, "model=t5-tiny", "exporter=optimum", *FAST)


def test_one_graph_that_was_exported_elsewhere_is_refused(t5: Path, tmp_path: Path) -> None:
    source, graph = t5 / "source", t5 / "build" / "export" / "decoder_model.onnx"
    with pytest.raises(ConfigError, match=r"exporter=file does not make the graphs for text2text-gen.*exporter=dynamo"):
        build(tmp_path, "exporter=file", f"exporter.path={graph}", "model=path", f"model.source.path={source}", *FAST)


DEFECTS: dict[str, tuple[str, Defect, set[str]]] = {
    "cross-attention swapped": ("decoder_with_past_model", swap_cross_attention, {"decoding recompute"}),
    "mask ignored": ("decoder_with_past_model", ignore_mask, {"decoding padding"}),
    "mask ignored at first": ("decoder_model", ignore_mask, {"decoding padding"}),
    "new tokens forgotten": ("decoder_with_past_model", forget_new_tokens, {"decoding recompute", "decoding scores"}),
    "positions reversed": ("decoder_with_past_model", reverse_position_bias, {"decoding recompute", "decoding scores"}),
    "nothing": ("decoder_with_past_model", lambda _: None, set()),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_decoder_that_is_wrong_with_its_cache_fails(name: str, t5: Path, tmp_path: Path) -> None:
    graph, defect, expected = DEFECTS[name]
    wrong = planted(t5 / "build" / "export", graph, defect, tmp_path / "wrong")
    runs = {graph: Runs(subject) for graph, subject in subjects_of(t5, optimize=wrong).items()}
    for each in runs.values():
        compare_all(each)  # which sees what is usual
    failed = {check.name for check in decoding.examine(runs) if not check.passed}
    assert expected <= failed
    assert bool(expected) == bool(failed)


def test_a_beginning_that_is_not_the_originals_fails(t5: Path, tmp_path: Path) -> None:
    sidecar = tmp_path / "sidecar"
    shutil.copytree(t5 / "build" / "sidecar", sidecar)
    config = json.loads((sidecar / "config.json").read_text(encoding="utf-8"))
    changes = {"decoder_start_token_id": 5, "task_specific_params": {"summarization": {"prefix": "sum up: "}}}
    (sidecar / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    subject = subjects_of(t5, sidecar=sidecar)["encoder_model"]
    failed = {check.name: check.where for check in generation.examine(subject) if not check.passed}
    assert set(failed) == {"config generation"}
    assert "decoder_start_token_id: 5, the original's is 0" in failed["config generation"]
    assert "task_specific_params" in failed["config generation"]


def test_validation_depends_on_how_its_family_decodes(tmp_path: Path) -> None:
    spec = resolve(compose(("model=t5-tiny",), tmp_path).spec, sha256_file)
    code = stage_code("validate", stage_specs(spec, {})["validate"])
    assert {"decoding/seq2seq.py", "families/seq2seq.py", "families/seq2seq_interfaces.py"} <= set(code)
    assert "decoding/causal.py" not in code


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("MarianMTModel", "text2text-generation"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
    ],
)
def test_the_name_of_a_class_tells_its_task(architecture: str, name: TaskName) -> None:
    assert task_of(architecture) is TASKS[name]
