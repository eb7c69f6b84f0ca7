"""What brought a departure in is named: the session's level, one of its optimizers, or the candidate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from tiny_models import only_component, random_batch

from modelbuild.checks.runs import Runs
from modelbuild.checks.subject import Subject
from modelbuild.diagnosis.optimizations import culprit
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.model_spec import InitSource
from modelbuild.parity import Usual
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import read_report, write_report
from modelbuild.runtime.session import SessionSettings
from modelbuild.spec import Opset, Providers, Session, Validation
from modelbuild.stage_spec import ExportSpec, StageModel, ValidateSpec
from modelbuild.stages import export
from modelbuild.tasks import TASKS

pytestmark = pytest.mark.slow
TASK = TASKS["feature-extraction"]
DISABLED = "optimization.disable_specified_optimizers"
MODEL = StageModel(
    source=InitSource(
        kind="init",
        architecture="BertModel",
        config={
            "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 48, "max_position_embeddings": 16,
        },
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A one-layer BERT that ships as it was exported."""
    out = tmp_path_factory.mktemp("export")
    spec = ExportSpec(model=MODEL, task=TASK.name, opset=Opset(version=20), exporter=PytorchExporter(kind="dynamo"))
    write_report(export.run(spec, {}, out), out / "report.json")
    reference = load_reference(MODEL, TASK, None)
    return Subject(
        spec=ValidateSpec(
            model=MODEL,
            task=TASK.name,
            opset=Opset(version=20),
            precision=Fp32Precision(kind="fp32"),
            providers=Providers(order=("cpu",)),
            session=Session(intra_op_num_threads=1),
            validation=Validation(kind="quick"),
        ),
        task=TASK,
        model_file=out / MODEL_FILE,
        exported_file=out / MODEL_FILE,
        exported_facts=read_report(out / "report.json").facts["components"]["model"],
        graph=read_graph(out / MODEL_FILE),
        sidecar=out,
        source=None,
        reference=reference,
        component=only_component(reference, TASK),
        limits={},
    )


@pytest.fixture(scope="module")
def wrong(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same graph with one weight changed."""
    model = onnx.load(subject.model_file)
    tensor = next(item for item in model.graph.initializer if list(item.dims) == [32, 48])
    values = numpy_helper.to_array(tensor).copy()
    values[3, 7] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = tmp_path_factory.mktemp("wrong") / MODEL_FILE
    onnx.save(model, path)
    return path


class WrongSession(Runs):
    """An ONNX Runtime that makes a wrong graph of the right file with some settings."""

    def __init__(self, subject: Subject, wrong: Path, harms: Callable[[SessionSettings], bool]) -> None:
        super().__init__(subject)
        self.wrong, self.harms = wrong, harms

    def open(self, settings: SessionSettings | None = None, model: Path | None = None) -> ort.InferenceSession:
        return super().open(settings, self.wrong if self.harms(settings or self.settings()) else model)


def culprit_of(runs: Runs, optimization: str, scratch: Path) -> str:
    """What brought the departure in on a batch with left padding, in a validation that has nothing usual to go by."""
    runs.usual.update({name: Usual() for name in TASK.output_names()})
    batch = random_batch(runs.subject.component, batch=2, sequence=9, mask="left")
    return culprit(runs, batch, optimization, scratch)


def test_what_is_right_at_extended_is_the_fault_of_the_level_above(
    subject: Subject, wrong: Path, tmp_path: Path
) -> None:
    runs = WrongSession(subject, wrong, lambda settings: settings.graph_optimization_level == "all")
    found = culprit_of(runs, "none", tmp_path)
    assert found == (
        "the file matches PyTorch, and at session.graph_optimization_level=all not; "
        "at extended it does: an optimization of level all (layout) is to blame"
    )


@pytest.mark.parametrize("name", ["AttentionFusion", "BiasGeluFusion", "ConstantFolding"])
def test_an_optimizer_of_the_session_is_named(name: str, subject: Subject, wrong: Path, tmp_path: Path) -> None:
    def harms(settings: SessionSettings) -> bool:
        without = settings.config_entries.get(DISABLED, "").split(";")
        return settings.graph_optimization_level != "none" and name not in without

    found = culprit_of(WrongSession(subject, wrong, harms), "none", tmp_path)
    assert found.endswith(f"session.graph_optimization_level=all not; without {name} it does")


def test_candidates_are_built_in_the_scratch_folder_and_nothing_is_left_there(
    subject: Subject, wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    found = culprit_of(Runs(replace(subject, model_file=wrong)), "extended", tmp_path)
    assert found.endswith("it is not what optimization=extended makes of it: the file was changed since")
    assert not list(tmp_path.iterdir())
