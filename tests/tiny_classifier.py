"""A tiny text classifier with a tokenizer, its sidecar files, and what a check may look at of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import only_component
from tiny_tokenizers import save_wordpiece

from modelbuild.checks.subject import Subject
from modelbuild.component import Component
from modelbuild.digest import sha256_file
from modelbuild.graph import GraphFacts
from modelbuild.model_spec import InitSource
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import Check, write_report
from modelbuild.signature import Signature, TensorSpec
from modelbuild.spec import Opset, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import FolderFiles, SidecarSpec, StageModel, ValidateSpec
from modelbuild.stages import off, sidecar
from modelbuild.tasks import TASKS, TaskName

LABELS = ("sad", "so so", "glad")
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    "max_position_embeddings": 16,
}  # fmt: skip


def labelled(labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """The settings of a config that name its classes."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def save_model(folder: Path, kind: str = "Bert", head: str = "ForSequenceClassification", **settings: Any) -> None:
    """Save a model with seeded weights, and no tokenizer, into `folder`."""
    config = getattr(transformers, f"{kind}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, f"{kind}{head}")(config).save_pretrained(folder)


def save_classifier(folder: Path, **settings: Any) -> None:
    """Save a BERT of three classes and its tokenizer into `folder`."""
    save_model(folder, **SIZES, **labelled())
    save_wordpiece(folder, **settings)


def model_in(folder: Path) -> StageModel:
    """The model in `folder`, as a stage sees it."""
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    return StageModel(source=FolderFiles(kind="folder", files=files))


def make_subject(
    source: Path | StageModel, out: Path, task: TaskName = "text-classification", kind: str = "auto"
) -> Subject:
    """The model in the folder `source`, or an init model, with its sidecar files made in `out`, and a graph that fits
    it.
    """
    model, folder = (model_in(source), source) if isinstance(source, Path) else (source, None)
    made = (off if kind == "off" else sidecar).run(
        SidecarSpec(model=model, task=task, sidecar=Sidecar.model_validate({"kind": kind})),
        {"source": folder} if folder else {},
        out,
    )
    write_report(made, out / "report.json")
    reference = load_reference(model, TASKS[task], folder)
    component = only_component(reference, TASKS[task])
    return Subject(
        spec=_spec(model, task),
        task=TASKS[task],
        model_file=out / "model.onnx",
        exported_file=out / "model.onnx",
        exported_facts={},
        graph=_graph(component, reference, task),
        sidecar=out,
        source=folder,
        reference=reference,
        component=component,
        limits={},
    )


def _spec(model: StageModel, task: TaskName) -> ValidateSpec:
    return ValidateSpec(
        model=model,
        task=task,
        opset=Opset(version=20),
        precision=Fp32Precision(kind="fp32"),
        providers=Providers(order=("cpu",)),
        session=Session(),
        validation=Validation(kind="quick"),
    )


def _graph(component: Component, reference: torch.nn.Module, task: TaskName) -> GraphFacts:
    config = reference.config
    shapes: Mapping[str, tuple[str | int, ...]] = {
        "feature-extraction": ("batch", "sequence", config.hidden_size),
        "fill-mask": ("batch", "sequence", config.vocab_size),
        "token-classification": ("batch", "sequence", config.num_labels),
        "text-classification": ("batch", config.num_labels),
        "question-answering": ("batch", "sequence"),
        "multiple-choice": ("batch", "choices"),
    }
    axes = component.interface.inputs[0].shape
    return GraphFacts(
        signature=Signature(
            inputs=tuple(
                TensorSpec(name=name, dtype="int64", shape=axes) for name in component.interface.input_names()
            ),
            outputs=tuple(
                TensorSpec(name=name, dtype="float32", shape=shapes[task]) for name in TASKS[task].output_names()
            ),
        ),
        opsets={"": 20},
        ir_version=10,
        operators={},
        tagged_nodes=0,
    )


def init_model(**settings: Any) -> StageModel:
    """A classifier with random weights from no files."""
    source = InitSource(kind="init", architecture="BertForSequenceClassification", config=SIZES | settings)
    return StageModel(source=source)


def failed(checks: Sequence[Check]) -> dict[str, str]:
    """Where each check failed that did."""
    assert len({check.name for check in checks}) == len(checks), "a report keeps one check of a name"
    return {check.name: check.where for check in checks if not check.passed}


def edit(path: Path, **changes: Any) -> None:
    """Set keys of the JSON object in `path`; `...` takes a key away."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in values.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")
