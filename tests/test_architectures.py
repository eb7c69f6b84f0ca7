"""Which tasks a model type has, and what is said when it has not the one that was asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import safe_weights
from processes import run
from tiny_models import CONFIG, tiny_model

from modelbuild.architectures import architecture_for, tasks_of
from modelbuild.errors import ExportError
from modelbuild.reference import load_original
from modelbuild.tasks import TASKS, TaskName

TEXT_TASKS = {name for name, task in TASKS.items() if str(task.family) == "text"}


def refusal(model_type: str, task: TaskName) -> str:
    with pytest.raises(ExportError) as caught:
        architecture_for({"model_type": model_type}, TASKS[task])
    (line,) = caught.value.lines()
    return line


def offered(line: str) -> set[str]:
    """The tasks of `choose task=a|b`."""
    found = re.search(r"choose task=([\w|-]+)$", line)
    return set(found.group(1).split("|")) if found else set()


def test_the_tasks_of_a_model_type_are_those_that_transformers_has_a_class_for() -> None:
    assert TEXT_TASKS.issubset(tasks_of({"model_type": "bert"}))
    assert TEXT_TASKS.issubset(tasks_of({"model_type": "mpnet"}))
    assert tasks_of({"architectures": ["DistilBertModel"]}) == tasks_of({"model_type": "distilbert"})
    assert tasks_of({"model_type": "bertt"}) == tasks_of({"architectures": ["Foo"]}) == tasks_of({}) == ()


def test_a_task_that_the_model_type_has_not_is_refused_with_those_that_it_has() -> None:
    line = refusal("gpt2", "fill-mask")
    assert line.startswith("error[EXP]: transformers has no fill-mask model for model_type 'gpt2': task.name: choose")
    assert {"text-classification", "token-classification", "question-answering"} <= offered(line)
    assert not {"fill-mask", "multiple-choice"} & offered(line)


def test_a_model_of_images_is_refused_for_texts_even_where_transformers_has_one_class_for_both() -> None:
    line = refusal("vit", "feature-extraction")
    assert line.startswith(
        "error[EXP]: a ViTModel takes pixel_values, and feature-extraction has input_ids, attention_mask, "
        "token_type_ids: task.name: "
    )
    assert not TEXT_TASKS & offered(line)
    assert not TEXT_TASKS & offered(refusal("vit", "text-classification"))


def test_a_model_type_without_any_task_is_told_so() -> None:
    assert refusal("autoformer", "fill-mask").endswith("'autoformer': task.name: no task fits it")


def test_a_model_type_that_transformers_has_not_is_one_that_was_misspelt() -> None:
    assert refusal("roberto", "fill-mask").endswith("'roberto': config.json: did you mean 'roberta'?")


def test_an_initialized_model_is_refused_for_a_task_that_its_type_has_not() -> None:
    with pytest.raises(ExportError, match="transformers has no multiple-choice model for model_type 'gpt2'"):
        load_original(tiny_model("GPT2Model", {"n_layer": 1}), TASKS["multiple-choice"], None)


def test_an_architecture_of_no_library_is_refused_with_one_that_is_near() -> None:
    with pytest.raises(ExportError, match=r"transformers has no model class 'BertForMaskdLM'.*'BertForMaskedLM'"):
        load_original(tiny_model("BertForMaskdLM", CONFIG), TASKS["fill-mask"], None)


def test_a_typo_in_a_task_is_told_with_the_task_that_was_meant(workspace: Path) -> None:
    finished = run("model=bert-tiny", "task=multiple-choise", cwd=workspace)
    assert finished.returncode == 2
    assert finished.stderr == (
        "error[CFG]: there is no task=multiple-choise: overrides: did you mean 'multiple-choice'?\n"
    )


@pytest.mark.slow
def test_a_build_for_a_task_that_the_model_has_not_ends_with_3_and_one_line(workspace: Path) -> None:
    folder = workspace / "vit"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    (folder / "model.safetensors").write_bytes(safe_weights())
    finished = run(
        "model=path", f"model.source.path={folder}", "task=fill-mask", "sidecar=off", "benchmark=off", cwd=workspace
    )
    assert finished.returncode == 3
    assert "error[EXP]: transformers has no fill-mask model for model_type 'vit': task.name: " in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_task_is_told_without_torch_or_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
    (tmp_path / "model.safetensors").write_bytes(safe_weights())
    (tmp_path / "vocab.txt").write_text("[PAD]")
    script = f"""
import sys
from pathlib import Path
from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.resolve import resolve
spec = compose(["model=path", "model.source.path={tmp_path}"], Path("{tmp_path}")).spec
assert resolve(spec, sha256_file).task == "fill-mask"
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
