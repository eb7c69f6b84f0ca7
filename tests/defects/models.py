"""The tiny models that defects are planted in: several families, tasks, exporters and optimizations, made once each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from pydantic import JsonValue

from modelbuild.checks.placement import placement_checks
from modelbuild.digest import sha256_file
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.model_spec import InitSource, PathSource
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import Report, write_report
from modelbuild.runtime.placement import node_placement
from modelbuild.runtime.session import SessionSettings
from modelbuild.sources import locate
from modelbuild.spec import Opset, Optimization, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import ExportSpec, FolderFiles, OptimizeSpec, SidecarSpec, StageModel, ValidateSpec
from modelbuild.stages import export, optimize, sidecar, validate
from modelbuild.tasks import TASKS, TaskName

# Weights are drawn wide, so that attention attends to something, as it does in a trained model.
_SIZES: dict[str, JsonValue] = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 24, "initializer_range": 0.2,
}  # fmt: skip
_DISTILBERT: dict[str, JsonValue] = {
    "vocab_size": 300, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48,
    "max_position_embeddings": 24, "initializer_range": 0.2,
}  # fmt: skip
_ONE_LAYER = _SIZES | {"num_hidden_layers": 1}
_ALBERT = _SIZES | {"embedding_size": 16, "num_labels": 4}
# Two positions are never used in this family: the padding token's id and what is before it.
_ROBERTA = _SIZES | {"max_position_embeddings": 26, "num_hidden_layers": 1}

STRICT = Validation(
    kind="strict",
    batch_sizes=(1, 3, 5),
    sequence_lengths=(1, 2, 9),
    masks_per_size=2,
    include_maximum=True,
    cover_embeddings=True,
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: a checkpoint of `architecture` with `config`, with weights drawn from `seed`. With `tokenizer` it has
    one, and is built with its sidecar files.
    """

    architecture: str
    config: dict[str, JsonValue]
    task: TaskName = "feature-extraction"
    exporter: str = "optimum"
    optimization: str = "none"
    opset: int = 18
    seed: int = 0
    tokenizer: bool = False

    def words(self) -> str:
        """The model for people: `BertModel, dynamo, transformer`."""
        optimized = "" if self.optimization == "none" else f", {self.optimization}"
        return f"{self.architecture}, {self.exporter}{optimized}"


MODELS = {
    "bert": Model(architecture="BertModel", config=_SIZES, exporter="dynamo", opset=20),
    "bert-optimum": Model(architecture="BertModel", config=_SIZES),
    "bert-fused": Model(architecture="BertModel", config=_SIZES, optimization="transformer"),
    "bert-classifier": Model(
        architecture="BertForSequenceClassification",
        config=_SIZES | {"num_labels": 3},
        task="text-classification",
        tokenizer=True,
    ),
    "bert-answers": Model(
        architecture="BertForQuestionAnswering", config=_SIZES, task="question-answering", optimization="extended"
    ),
    "bert-fill-mask": Model(architecture="BertForMaskedLM", config=_ONE_LAYER, task="fill-mask", exporter="dynamo"),
    "distilbert": Model(
        architecture="DistilBertModel", config=_DISTILBERT | {"n_layers": 1}, exporter="dynamo", opset=20
    ),
    "distilbert-classifier": Model(
        architecture="DistilBertForSequenceClassification",
        config=_DISTILBERT | {"num_labels": 3},
        task="text-classification",
        optimization="extended",
    ),
    "roberta": Model(architecture="RobertaModel", config=_ROBERTA, exporter="dynamo"),
    "albert": Model(architecture="AlbertForTokenClassification", config=_ALBERT, task="token-classification"),
}


@dataclass(frozen=True, kw_only=True)
class Build:
    """The folders of one build, by stage, ready for validate, and that of the model's files, `source`."""

    model: Model
    folders: dict[str, Path]

    @property
    def stage_model(self) -> StageModel:
        """The model as the stages see it: its files as they are now."""
        digests = {path.name: sha256_file(path) for path in sorted(self.folders["source"].iterdir())}
        return StageModel(source=FolderFiles(kind="folder", files=digests))

    def inputs(self, *names: str) -> dict[str, Path]:
        """The folders of these stages, and the source's."""
        return {name: self.folders[name] for name in (*names, "source")}

    def copy(self, to: Path) -> Build:
        """The same build in folders of its own below `to`, to be changed."""
        for name, folder in self.folders.items():
            shutil.copytree(folder, to / name)
        return Build(model=self.model, folders={name: to / name for name in self.folders})

    def reference(self) -> torch.nn.Module:
        """The original."""
        return load_reference(self.stage_model, TASKS[self.model.task], self.folders["source"])


def make(model: Model, to: Path) -> Build:
    """Every stage before validate, each in its folder below `to`."""
    folders = {name: to / name for name in ("source", "export", "sidecar", "optimize")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_checkpoint(model, folders["source"])
    build = Build(model=model, folders=folders)
    _run_sidecar(build)
    export_again(build)
    return build


def run_source_and_export(build: Build) -> Report:
    """The report of export, on files that were looked up as a user's are. Raises for everything wrong with them."""
    source = PathSource(kind="path", path=str(build.folders["source"]))
    located = locate(source, sha256_file)
    return _run_export(build, located.subset(source, weights=True, sidecars=False))


def export_again(build: Build) -> None:
    """Export and optimize into the folders of `build`: PyTorch's classes may have been changed since the first time."""
    folders, model = build.folders, build.model
    for stage in ("export", "optimize"):
        shutil.rmtree(folders[stage])
        folders[stage].mkdir()
    _run_export(build, build.stage_model)
    optimization = Optimization.model_validate({"kind": model.optimization})
    optimize_spec = OptimizeSpec(optimization=optimization, precision=Fp32Precision(kind="fp32"))
    write_report(
        optimize.run(optimize_spec, build.inputs("export"), folders["optimize"]), folders["optimize"] / "report.json"
    )


def _run_export(build: Build, stage_model: StageModel) -> Report:
    model, out = build.model, build.folders["export"]
    spec = ExportSpec.model_validate(
        {
            "model": stage_model,
            "task": model.task,
            "opset": {"version": model.opset},
            "exporter": {"kind": model.exporter},
        }
    )
    report = export.run(spec, build.inputs(), out)
    write_report(report, out / "report.json")
    return report


def run_validate(build: Build) -> Report:
    """The report of the stage validate on `build`, as strict as a release is, on few sizes."""
    model = build.model
    spec = ValidateSpec(
        model=build.stage_model,
        task=model.task,
        opset=Opset.model_validate({"version": model.opset}),
        precision=Fp32Precision(kind="fp32"),
        providers=Providers(order=("cpu",)),
        session=Session(intra_op_num_threads=1),
        validation=STRICT,
    )
    return validate.run(spec, build.inputs("export", "optimize", "sidecar"), build.folders["optimize"])


def run_placement(build: Build, providers: Sequence[str]) -> Report:
    """A report of where the nodes run, on providers that need not be among those that a build can ask for."""
    path = build.folders["optimize"] / MODEL_FILE
    ids = np.ones((2, 8), dtype=np.int64)
    placement = node_placement(
        path,
        providers=[(name, {}) for name in providers],
        settings=SessionSettings(intra_op_num_threads=1),
        inputs=[dict.fromkeys(read_graph(path).signature.input_names(), ids)],
    )
    return Report(stage="placement", checks=tuple(placement_checks(placement)))


def write_checkpoint(model: Model, folder: Path) -> None:
    """A Hugging Face folder: config, safetensors, and a tokenizer if the model has one."""
    source = InitSource(kind="init", architecture=model.architecture, config=model.config, seed=model.seed)
    reference = load_reference(StageModel(source=source), TASKS[model.task], None)
    _train(reference, model.seed)
    reference.save_pretrained(folder)
    if model.tokenizer:
        write_tokenizer(folder, vocabulary(), lower=False)


def _train(reference: torch.nn.Module, seed: int) -> None:
    """Give biases and gains values of their own, as training does: a new model has zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


def vocabulary() -> list[str]:
    """Special tokens, letters and a few words, fewer than the model has rows for."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*letters, *letters.upper(), *(f"##{letter}" for letter in letters), *"0123456789.,!&%;üàçëÜ"]
    return [*special, *pieces, "harbour", "Harbour", "quiet", "rain", "Rain", "the", "The", "station", "master", "road"]


def write_tokenizer(folder: Path, words: Sequence[str], *, lower: bool) -> None:
    """A word-piece tokenizer of `words`."""
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    path = str(folder / "vocab.txt")
    tokenizer = transformers.BertTokenizerFast(path, do_lower_case=lower, model_max_length=24)
    tokenizer.save_pretrained(folder)


def _run_sidecar(build: Build) -> None:
    kind = Sidecar(kind="auto" if build.model.tokenizer else "off")
    spec = SidecarSpec(model=build.stage_model, task=build.model.task, sidecar=kind)
    out = build.folders["sidecar"]
    write_report(sidecar.run(spec, build.inputs(), out), out / "report.json")
