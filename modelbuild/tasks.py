"""The tasks: one literal table, from which everything that depends on the task is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelbuild.interface import Output

FamilyName = Literal["causal-lm", "diffusion", "text", "image", "seq2seq", "module"]
TaskName = Literal[
    "automatic-speech-recognition",
    "custom",
    "feature-extraction",
    "fill-mask",
    "image-classification",
    "image-feature-extraction",
    "multiple-choice",
    "question-answering",
    "text-classification",
    "text-generation",
    "text2text-generation",
    "text-to-image",
    "token-classification",
    "zero-shot-image-classification",
]

Preprocessor = Literal["tokenizer", "image_processor", "feature_extractor"]

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# A graph may do without these, and then means what PyTorch does when it is not given them.
OPTIONAL_INPUTS = frozenset({"token_type_ids"})

_TOKENS = ("batch", "sequence")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one task means.

    `family` is the kind of model that does it, which says what its graphs are. `auto_class` and `optimum_class` are
    class names in transformers and optimum.onnxruntime, empty where there is none; `pipeline` is what transformers'
    pipelines call the task, None where they have none. `architecture_suffixes` are how the architectures of the task
    end (`BertForMaskedLM`).
    `inputs` are the names a model may take, of which each model takes those that its `forward` has; `outputs` are those
    it must give, in order, with their leading axes. `labels` says that the model's config must name its classes;
    `choices` that inputs have an axis of choices after the batch. `unused_weights` are prefixes of parameters that no
    output depends on, so that a checkpoint may lack them. `preprocessors` are what turns texts, images or sounds into
    inputs, and belongs beside the graph; the tokenizer's files are in `tokenizer_folder` of the model's folder.
    """

    name: TaskName
    family: FamilyName
    auto_class: str
    optimum_class: str
    pipeline: str | None
    architecture_suffixes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    unused_weights: tuple[str, ...] = ()
    labels: bool = False
    choices: bool = False
    preprocessors: tuple[Preprocessor, ...] = ("tokenizer",)
    tokenizer_folder: str = ""

    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(output.name for output in self.outputs)


TASKS: dict[TaskName, Task] = {
    "automatic-speech-recognition": Task(
        name="automatic-speech-recognition",
        family="seq2seq",
        auto_class="AutoModelForSpeechSeq2Seq",
        optimum_class="ORTModelForSpeechSeq2Seq",
        pipeline="automatic-speech-recognition",
        architecture_suffixes=("WhisperForConditionalGeneration",),
        inputs=("input_features",),
        outputs=(Output(name="logits", shape=("batch", "decoder_sequence"), meaning="scores"),),
        preprocessors=("tokenizer", "feature_extractor"),
    ),
    "custom": Task(
        name="custom",
        family="module",
        auto_class="",
        optimum_class="",
        pipeline=None,
        architecture_suffixes=(),
        inputs=(),
        outputs=(),
        preprocessors=(),
    ),
    "feature-extraction": Task(
        name="feature-extraction",
        family="text",
        auto_class="AutoModel",
        optimum_class="ORTModelForFeatureExtraction",
        pipeline="feature-extraction",
        architecture_suffixes=("Model",),
        inputs=TEXT_INPUTS,
        outputs=(Output(name="last_hidden_state", shape=_TOKENS, meaning="embeddings"),),
        unused_weights=("pooler.",),
    ),
    "fill-mask": Task(
        name="fill-mask",
        family="text",
        auto_class="AutoModelForMaskedLM",
        optimum_class="ORTModelForMaskedLM",
        pipeline="fill-mask",
        architecture_suffixes=("ForMaskedLM",),
        inputs=TEXT_INPUTS,
        outputs=(Output(name="logits", shape=_TOKENS, meaning="scores"),),
    ),
    "image-classification": Task(
        name="image-classification",
        family="image",
        auto_class="AutoModelForImageClassification",
        optimum_class="ORTModelForImageClassification",
        pipeline="image-classification",
        architecture_suffixes=("ForImageClassification",),
        inputs=("pixel_values",),
        outputs=(Output(name="logits", shape=("batch",), meaning="scores"),),
        labels=True,
        preprocessors=("image_processor",),
    ),
    "image-feature-extraction": Task(
        name="image-feature-extraction",
        family="image",
        auto_class="AutoModel",
        optimum_class="ORTModelForFeatureExtraction",
        pipeline=None,
        architecture_suffixes=("BeitModel", "DeiTModel", "ResNetModel", "ViTModel"),
        inputs=("pixel_values",),
        outputs=(Output(name="last_hidden_state", shape=("batch",), meaning="embeddings"),),
        unused_weights=("pooler.",),
        preprocessors=("image_processor",),
    ),
    "multiple-choice": Task(
        name="multiple-choice",
        family="text",
        auto_class="AutoModelForMultipleChoice",
        optimum_class="ORTModelForMultipleChoice",
        pipeline=None,
        architecture_suffixes=("ForMultipleChoice",),
        inputs=TEXT_INPUTS,
        outputs=(Output(name="logits", shape=("batch", "choices"), meaning="scores"),),
        choices=True,
    ),
    "question-answering": Task(
        name="question-answering",
        family="text",
        auto_class="AutoModelForQuestionAnswering",
        optimum_class="ORTModelForQuestionAnswering",
        pipeline="question-answering",
        architecture_suffixes=("ForQuestionAnswering",),
        inputs=TEXT_INPUTS,
        outputs=(
            Output(name="start_logits", shape=_TOKENS, meaning="scores"),
            Output(name="end_logits", shape=_TOKENS, meaning="scores"),
        ),
    ),
    "text-classification": Task(
        name="text-classification",
        family="text",
        auto_class="AutoModelForSequenceClassification",
        optimum_class="ORTModelForSequenceClassification",
        pipeline="text-classification",
        architecture_suffixes=("ForSequenceClassification",),
        inputs=TEXT_INPUTS,
        outputs=(Output(name="logits", shape=("batch",), meaning="scores"),),
        labels=True,
    ),
    "text-generation": Task(
        name="text-generation",
        family="causal-lm",
        auto_class="AutoModelForCausalLM",
        optimum_class="ORTModelForCausalLM",
        pipeline="text-generation",
        architecture_suffixes=("ForCausalLM", "LMHeadModel"),
        inputs=("input_ids", "attention_mask", "position_ids"),
        outputs=(Output(name="logits", shape=_TOKENS, meaning="scores"),),
    ),
    "text2text-generation": Task(
        name="text2text-generation",
        family="seq2seq",
        auto_class="AutoModelForSeq2SeqLM",
        optimum_class="ORTModelForSeq2SeqLM",
        pipeline="text2text-generation",
        architecture_suffixes=("ForConditionalGeneration", "MTModel"),
        inputs=("input_ids", "attention_mask"),
        outputs=(Output(name="logits", shape=("batch", "decoder_sequence"), meaning="scores"),),
    ),
    "text-to-image": Task(
        name="text-to-image",
        family="diffusion",
        auto_class="StableDiffusionPipeline",
        optimum_class="ORTStableDiffusionPipeline",
        pipeline=None,
        architecture_suffixes=("StableDiffusionPipeline",),
        # Each graph has inputs and outputs of its own, which the family knows.
        inputs=(),
        outputs=(),
        tokenizer_folder="tokenizer",
    ),
    "token-classification": Task(
        name="token-classification",
        family="text",
        auto_class="AutoModelForTokenClassification",
        optimum_class="ORTModelForTokenClassification",
        pipeline="token-classification",
        architecture_suffixes=("ForTokenClassification",),
        inputs=TEXT_INPUTS,
        outputs=(Output(name="logits", shape=_TOKENS, meaning="scores"),),
        labels=True,
    ),
    "zero-shot-image-classification": Task(
        name="zero-shot-image-classification",
        family="image",
        auto_class="AutoModelForZeroShotImageClassification",
        optimum_class="ORTModelForZeroShotImageClassification",
        pipeline="zero-shot-image-classification",
        architecture_suffixes=("CLIPModel",),
        inputs=("input_ids", "pixel_values", "attention_mask"),
        outputs=(
            Output(name="logits_per_image", shape=("image_batch", "text_batch"), meaning="scores"),
            Output(name="logits_per_text", shape=("text_batch", "image_batch"), meaning="scores"),
            Output(name="text_embeds", shape=("text_batch",), meaning="embeddings"),
            Output(name="image_embeds", shape=("image_batch",), meaning="embeddings"),
        ),
        preprocessors=("tokenizer", "image_processor"),
    ),
}


def task_of(architecture: str) -> Task | None:
    """The task that a model class of this name is for, or None: `BertForMaskedLM` is for fill-mask."""
    suffixes = {suffix: task for task in TASKS.values() for suffix in task.architecture_suffixes}
    longest = sorted(suffixes, key=len, reverse=True)
    return next((suffixes[suffix] for suffix in longest if architecture.endswith(suffix)), None)
