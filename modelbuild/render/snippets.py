"""What the README of a package shows of its task: one table of Python code, which runs in the package's folder."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import cast

from modelbuild.tasks import TASKS, Preprocessor, Task, TaskName


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """How a package of one task is used.

    `code` is for Optimum: it finds the `model`, and the task's preprocessors under their names (`tokenizer`), and
    prints an answer; `imports` are the lines that it needs at the top. `asked` are the arguments of a call of the
    task's `pipe`, in Python.
    """

    code: str
    asked: str = ""
    imports: tuple[str, ...] = ()


# The class that opens a preprocessor, and the files of which one tells that a package has it.
PREPROCESSORS: dict[Preprocessor, tuple[str, frozenset[str]]] = {
    "tokenizer": ("AutoTokenizer", frozenset({"tokenizer.json", "tokenizer_config.json"})),
    "image_processor": ("AutoImageProcessor", frozenset({"preprocessor_config.json"})),
    "feature_extractor": ("AutoFeatureExtractor", frozenset({"preprocessor_config.json"})),
}

SNIPPETS: dict[TaskName, Snippet] = {
    "automatic-speech-recognition": Snippet(
        code="""\
rate = feature_extractor.sampling_rate
wave = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
features = feature_extractor(wave, sampling_rate=rate, return_tensors="pt")
made = model.generate(features["input_features"], max_new_tokens=16)
print(tokenizer.decode(made[0], skip_special_tokens=True))
""",
        asked="np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)",
        imports=("import numpy as np",),
    ),
    "feature-extraction": Snippet(
        code="""\
outputs = model(**tokenizer("The harbour was quiet.", return_tensors="pt"))
print(tuple(outputs.last_hidden_state.shape))
""",
        asked='"The harbour was quiet."',
    ),
    "fill-mask": Snippet(
        code="""\
encoded = tokenizer(f"The harbour was {tokenizer.mask_token}.", return_tensors="pt")
outputs = model(**encoded)
print(tokenizer.decode(outputs.logits[encoded["input_ids"] == tokenizer.mask_token_id].argmax(-1)))
""",
        asked='f"The harbour was {pipe.tokenizer.mask_token}."',
    ),
    "image-classification": Snippet(
        code="""\
outputs = model(**image_processor(Image.new("RGB", (64, 48), "teal"), return_tensors="pt"))
print(model.config.id2label[int(outputs.logits.argmax())])
""",
        asked='Image.new("RGB", (64, 48), "teal")',
        imports=("from PIL import Image",),
    ),
    "image-feature-extraction": Snippet(
        code="""\
outputs = model(**image_processor(Image.new("RGB", (64, 48), "teal"), return_tensors="pt"))
print(tuple(outputs.last_hidden_state.shape))
""",
        imports=("from PIL import Image",),
    ),
    "multiple-choice": Snippet(
        code="""\
endings = ["quiet.", "asleep.", "far too loud for anybody."]
encoded = tokenizer(["The harbour was"] * len(endings), endings, padding=True, return_tensors="pt")
outputs = model(**{name: tensor[None] for name, tensor in encoded.items()})
print(endings[int(outputs.logits.argmax())])
""",
    ),
    "question-answering": Snippet(
        code="""\
encoded = tokenizer("Where was it quiet?", "The harbour was quiet.", return_tensors="pt")
outputs = model(**encoded)
first, last = int(outputs.start_logits.argmax()), int(outputs.end_logits.argmax())
print(tokenizer.decode(encoded["input_ids"][0, first : last + 1]))
""",
        asked='question="Where was it quiet?", context="The harbour was quiet."',
    ),
    "text-classification": Snippet(
        code="""\
outputs = model(**tokenizer("The harbour was quiet.", return_tensors="pt"))
print(model.config.id2label[int(outputs.logits.argmax())])
""",
        asked='"The harbour was quiet."',
    ),
    "text-generation": Snippet(
        code="""\
encoded = tokenizer("The harbour was", return_tensors="pt", return_token_type_ids=False)
made = model.generate(**encoded, max_new_tokens=16)
print(tokenizer.decode(made[0], skip_special_tokens=True))
""",
        asked='"The harbour was", max_new_tokens=16',
    ),
    "text2text-generation": Snippet(
        code="""\
encoded = tokenizer("The harbour was quiet.", return_tensors="pt", return_token_type_ids=False)
made = model.generate(**encoded, max_new_tokens=16)
print(tokenizer.decode(made[0], skip_special_tokens=True))
""",
        asked='"The harbour was quiet."',
    ),
    "token-classification": Snippet(
        code="""\
encoded = tokenizer("The harbour was quiet.", return_tensors="pt")
outputs = model(**encoded)
labels = [model.config.id2label[number] for number in outputs.logits[0].argmax(-1).tolist()]
print(list(zip(encoded.tokens(), labels)))
""",
        asked='"The harbour was quiet."',
    ),
    "zero-shot-image-classification": Snippet(
        code="""\
texts = ["a harbour", "a teal wall"]
encoded = tokenizer(texts, padding=True, return_tensors="pt")
pixels = image_processor(Image.new("RGB", (64, 48), "teal"), return_tensors="pt")
outputs = model(**encoded, **pixels)
print(texts[int(outputs.logits_per_image.argmax())])
""",
        asked='Image.new("RGB", (64, 48), "teal"), candidate_labels=["a harbour", "a teal wall"]',
        imports=("from PIL import Image",),
    ),
}


def preprocessors_in(task: Task, files: Container[str]) -> tuple[tuple[str, str], ...] | None:
    """Name and class of each preprocessor that the task has, or None when a package with these files lacks one."""
    known = [(name, *PREPROCESSORS[name]) for name in task.preprocessors]
    if not all(any(file in files for file in telling) for _, _, telling in known):
        return None
    return tuple((name, opened_by) for name, opened_by, _ in known)


def task_named(name: str) -> Task | None:
    """The task of that name, or None."""
    return TASKS.get(cast(TaskName, name))
