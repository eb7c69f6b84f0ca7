"""The tasks: one literal table, from which everything that depends on the task is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaskName = Literal[
    "feature-extraction",
    "fill-mask",
    "question-answering",
    "text-classification",
    "token-classification",
]

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# A graph may do without these, and then means what PyTorch does when it is not given them.
OPTIONAL_INPUTS = frozenset({"token_type_ids"})


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one task means.

    `auto_class` and `optimum_class` are class names in transformers and optimum.onnxruntime; `architecture_suffix` is
    how the architectures of the task end (`BertForMaskedLM`). `inputs` are the names a model may take, of which each
    model takes those that its `forward` has; `outputs` are the names it must give, in order. `per_token` outputs have a
    sequence axis, and only their valid positions mean anything. `embeddings` are outputs whose directions matter; all
    others are scores, of which the largest matters. `labels` says that the model's config must name its
    classes. `unused_weights` are prefixes of parameters that no output depends on, so that a checkpoint may lack them.
    """

    name: TaskName
    auto_class: str
    optimum_class: str
    architecture_suffix: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    unused_weights: tuple[str, ...] = ()
    per_token: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    labels: bool = False


TASKS: dict[TaskName, Task] = {
    "feature-extraction": Task(
        name="feature-extraction",
        auto_class="AutoModel",
        optimum_class="ORTModelForFeatureExtraction",
        architecture_suffix="Model",
        inputs=TEXT_INPUTS,
        outputs=("last_hidden_state",),
        unused_weights=("pooler.",),
        per_token=("last_hidden_state",),
        embeddings=("last_hidden_state",),
    ),
    "fill-mask": Task(
        name="fill-mask",
        auto_class="AutoModelForMaskedLM",
        optimum_class="ORTModelForMaskedLM",
        architecture_suffix="ForMaskedLM",
        inputs=TEXT_INPUTS,
        outputs=("logits",),
        per_token=("logits",),
    ),
    "question-answering": Task(
        name="question-answering",
        auto_class="AutoModelForQuestionAnswering",
        optimum_class="ORTModelForQuestionAnswering",
        architecture_suffix="ForQuestionAnswering",
        inputs=TEXT_INPUTS,
        outputs=("start_logits", "end_logits"),
        per_token=("start_logits", "end_logits"),
    ),
    "text-classification": Task(
        name="text-classification",
        auto_class="AutoModelForSequenceClassification",
        optimum_class="ORTModelForSequenceClassification",
        architecture_suffix="ForSequenceClassification",
        inputs=TEXT_INPUTS,
        outputs=("logits",),
        labels=True,
    ),
    "token-classification": Task(
        name="token-classification",
        auto_class="AutoModelForTokenClassification",
        optimum_class="ORTModelForTokenClassification",
        architecture_suffix="ForTokenClassification",
        inputs=TEXT_INPUTS,
        outputs=("logits",),
        per_token=("logits",),
        labels=True,
    ),
}


def task_of(architecture: str) -> Task | None:
    """The task that a model class of this name is for, or None: `BertForMaskedLM` is for fill-mask."""
    by_length = sorted(TASKS.values(), key=lambda task: -len(task.architecture_suffix))
    return next((task for task in by_length if architecture.endswith(task.architecture_suffix)), None)
