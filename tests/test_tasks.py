from __future__ import annotations

from typing import get_args

import optimum.onnxruntime
import pytest
import transformers

from modelbuild.tasks import TASKS, TEXT_INPUTS, Task, TaskName, task_of

# A module of one's own has names of its own for everything, and a pipeline is of diffusers.
TRANSFORMERS = {name: task for name, task in TASKS.items() if name not in ("custom", "text-to-image")}


def test_every_name_of_a_task_has_one_entry_under_its_own_name() -> None:
    assert set(TASKS) == set(get_args(TaskName))
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("BertModel", "feature-extraction"),
        ("MPNetModel", "feature-extraction"),
        ("BertForMaskedLM", "fill-mask"),
        ("DistilBertForQuestionAnswering", "question-answering"),
        ("RobertaForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("StableDiffusionPipeline", "text-to-image"),
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"),
    ],
)
def test_the_name_of_a_class_tells_its_task(architecture: str, name: TaskName) -> None:
    assert task_of(architecture) is TASKS[name]


@pytest.mark.parametrize("architecture", ["BertForPreTraining", "GPT2LMHeadModelX", "BertLMHead", "", "modelfor"])
def test_a_class_of_another_kind_has_no_task(architecture: str) -> None:
    assert task_of(architecture) is None


@pytest.mark.parametrize("task", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_what_a_task_says_of_its_tensors_fits_together(task: Task) -> None:
    assert task.outputs
    if task.family == "text":
        assert task.inputs[: len(TEXT_INPUTS)] == TEXT_INPUTS
    assert all(prefix.endswith(".") for prefix in task.unused_weights)
    assert task.labels == (task.name.endswith("-classification") and not task.name.startswith("zero-shot-"))


@pytest.mark.parametrize("task", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_the_class_that_transformers_builds_for_a_task_tells_the_task(task: Task) -> None:
    """A bare model is for one task: a ViTModel for features of images, a BertModel for those of texts."""
    configs = {"text": transformers.BertConfig, "causal-lm": transformers.GPT2Config, "image": transformers.ViTConfig}
    others = {
        "zero-shot-image-classification": transformers.CLIPConfig,
        "automatic-speech-recognition": transformers.WhisperConfig,
        "text2text-generation": transformers.T5Config,
    }
    built = getattr(transformers, task.auto_class)._model_mapping[others.get(task.name) or configs[task.family]]
    name = built[0].__name__ if isinstance(built, tuple) else built.__name__
    assert name.endswith(task.architecture_suffixes)
    assert task_of(name) is task


@pytest.mark.parametrize("task", [*TRANSFORMERS.values(), TASKS["text-to-image"]], ids=lambda task: task.name)
def test_optimum_has_the_class_that_opens_packages_of_a_task(task: Task) -> None:
    assert getattr(optimum.onnxruntime, task.optimum_class).auto_model_class.__name__ == task.auto_class
