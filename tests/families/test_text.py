"""Packages of text models, opened with Optimum in a process of their own, answer as PyTorch does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from families.building import FAST, build
from families.opened import README_BLOCKS, answers
from families.text_checkpoints import LABELS, ModelName, save_checkpoint

import modelbuild
from modelbuild.tasks import TASKS, TaskName

pytestmark = pytest.mark.slow

TRIED: tuple[tuple[TaskName, ModelName], ...] = (
    ("text-classification", "bert"),
    ("text-classification", "distilbert"),
    ("text-classification", "roberta"),
    ("question-answering", "bert"),
    ("question-answering", "distilbert"),
    ("token-classification", "bert"),
    ("token-classification", "distilbert"),
    ("feature-extraction", "minilm"),
    ("feature-extraction", "bert"),
    ("feature-extraction", "roberta"),
    ("fill-mask", "minilm"),
    ("fill-mask", "bert"),
    ("fill-mask", "roberta"),
    ("multiple-choice", "minilm"),
    ("multiple-choice", "bert"),
    ("multiple-choice", "roberta"),
)
TEXTS = ("the cat sat on the mat .", "t h e", "no !", "a far longer text than the others are .")
QUESTIONS = (("where is it ?", "the cat sat on the mat ."), ("who ?", "nobody at all , it was the dog ."))

# What the two processes have in common: `asked` of a pipeline, and the texts that a model of the task is given.
_SHARED = """
import json
from transformers import AutoTokenizer

texts, questions = json.loads(str(given["texts"])), json.loads(str(given["questions"]))
tokenizer = AutoTokenizer.from_pretrained(folder)

def encode(task):
    if task == "question-answering":
        return tokenizer(*map(list, zip(*questions)), padding=True, return_tensors="pt")
    if task == "fill-mask":
        return tokenizer([text + tokenizer.mask_token for text in texts], padding=True, return_tensors="pt")
    if task == "multiple-choice":
        pairs = tokenizer([texts[0]] * 3, texts[1:], padding=True, return_tensors="pt")
        return {name: tensor[None] for name, tensor in pairs.items()}
    return tokenizer(texts, padding=True, return_tensors="pt")

def ask(pipe, task):
    if task == "question-answering":
        return [pipe(question=question, context=context) for question, context in questions]
    if task == "fill-mask":
        return pipe([text + tokenizer.mask_token for text in texts])
    return pipe(texts, top_k=None) if task == "text-classification" else pipe(texts)
"""
_OPTIMUM = """
import optimum.onnxruntime
from optimum.pipelines import pipeline

task = str(given["task"])
model = getattr(optimum.onnxruntime, str(given["optimum_class"])).from_pretrained(folder)
answers |= {name: tensor.numpy() for name, tensor in model(**encode(task)).items()}
if str(given["pipeline"]):
    pipe = pipeline(str(given["pipeline"]), model=model, tokenizer=tokenizer, accelerator="ort")
    answers["pipeline"] = json.dumps(ask(pipe, task), default=float)
"""


@pytest.mark.parametrize(("task", "model"), TRIED, ids=["-".join(pair) for pair in TRIED])
def test_optimum_and_its_pipeline_answer_as_pytorch_does_and_the_readme_runs(
    task: TaskName, model: ModelName, tmp_path: Path
) -> None:
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    for folder in (source, scratch):
        folder.mkdir()
    save_checkpoint(source, model, task)
    package = build(scratch, "model=path", f"model.source.path={source}", *FAST)
    known = TASKS[task]
    given = {
        "texts": json.dumps(TEXTS), "questions": json.dumps(QUESTIONS), "task": task,
        "optimum_class": known.optimum_class, "pipeline": known.pipeline or "",
        "modelbuild": str(Path(modelbuild.__file__).parents[1]),
    }  # fmt: skip
    expected, asked = _of_pytorch(source, task, given)
    found = answers(_SHARED + _OPTIMUM + README_BLOCKS, package, scratch, **given)
    assert {name: found[name].shape for name in expected} == {name: array.shape for name, array in expected.items()}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-4)
    if known.pipeline is not None:
        _same(json.loads(str(found["pipeline"])), asked)
        assert not known.labels or set(LABELS) & set(_texts_in(asked))
    kinds = [(False, False), (False, True), *([(True, True)] if known.pipeline else []), (False, False)]
    assert [tuple(kind) for kind in found["kinds"]] == kinds
    # Of random weights an answer to a question may be of no words.
    assert all(str(found[f"printed.{number}"]).strip() or "question" in task for number in range(len(kinds)))


def _of_pytorch(source: Path, task: TaskName, given: dict[str, str]) -> tuple[dict[str, Any], Any]:
    """The outputs of the original, and what transformers' own pipeline says with it."""
    names: dict[str, Any] = {"folder": source, "given": given}
    exec(_SHARED, names)
    original = getattr(transformers, TASKS[task].auto_class).from_pretrained(source).eval()
    with torch.inference_mode():
        outputs = original(**names["encode"](task))
    expected = {name: outputs[name].numpy() for name in TASKS[task].output_names()}
    if TASKS[task].pipeline is None:
        return expected, None
    pipe = transformers.pipeline(TASKS[task].pipeline, model=original, tokenizer=names["tokenizer"], device="cpu")
    return expected, json.loads(json.dumps(names["ask"](pipe, task), default=float))


def _same(found: Any, expected: Any) -> None:
    """Labels, spans and tokens are the same, and scores nearly so."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _same(one, other)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            _same(found[key], value)
    else:
        assert found == expected


def _texts_in(value: Any) -> list[str]:
    """Every text in an answer, at any depth."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [text for part in parts for text in _texts_in(part)]
    return [value] if isinstance(value, str) else []
