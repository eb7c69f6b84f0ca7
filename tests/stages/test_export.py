"""export: every exporter, every opset, every task gives the graph that was asked for."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.interface import Interface
from modelbuild.model_spec import InitSource
from modelbuild.report import read_report
from modelbuild.spec import Opset
from modelbuild.stage_spec import ExportSpec, FolderFiles, StageModel
from modelbuild.stages import export
from modelbuild.tasks import TASKS, TaskName

pytestmark = pytest.mark.slow

CONFIG = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}


def test_outputs_that_are_split_can_be_had_at_the_oldest_opset(tiny: StageModel, tmp_path: Path) -> None:
    spec = ExportSpec(
        model=tiny, task="question-answering", opset=Opset(version=17), exporter=PytorchExporter(kind="dynamo")
    )
    facts = export.run(spec, {}, tmp_path).facts["components"]["model"]
    assert facts["opsets"][""] == 17
    assert "Split" not in facts["operators"]


@pytest.mark.parametrize(
    ("kind", "opset"), [("dynamo", 17), ("dynamo", 18), ("dynamo", 21), ("optimum", 17), ("optimum", 20)]
)
def test_the_graph_has_the_opset_and_symbolic_axes(kind: str, opset: int, tiny: StageModel, tmp_path: Path) -> None:
    spec = ExportSpec.model_validate(
        {
            "model": tiny,
            "task": "feature-extraction",
            "opset": Opset.model_validate({"version": opset}),
            "exporter": PytorchExporter.model_validate({"kind": kind}),
        }
    )
    export.run(spec, {}, tmp_path)
    graph = read_graph(tmp_path / MODEL_FILE)
    assert graph.opsets == {"": opset}
    assert {tensor.shape for tensor in graph.signature.inputs} == {("batch", "sequence")}
    assert graph.signature.outputs[0].shape == ("batch", "sequence", 32)
    assert graph.tagged_nodes == graph.nodes


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.family == "text"])
def test_every_task_of_one_text_gives_its_outputs(task: TaskName, tiny: StageModel, tmp_path: Path) -> None:
    spec = ExportSpec(model=tiny, task=task, opset=Opset(version=18), exporter=PytorchExporter(kind="optimum"))
    report = export.run(spec, {}, tmp_path)
    signature = report.facts["components"]["model"]["signature"]
    assert tuple(output["name"] for output in signature["outputs"]) == TASKS[task].output_names()


def test_nodes_say_which_module_they_come_from_and_no_path_of_this_machine(exported: Path) -> None:
    modules = read_report(exported / "report.json").facts["components"]["model"]["hierarchy"]["modules"]
    assert modules["encoder.layer.0.attention.self"] > 0
    assert not any("modelbuild" in name or "/" in name for name in modules)
    assert b"site-packages" not in (exported / MODEL_FILE).read_bytes()


def test_the_same_export_twice_is_the_same_to_the_byte(tiny: StageModel, exported: Path, tmp_path: Path) -> None:
    spec = ExportSpec(
        model=tiny, task="feature-extraction", opset=Opset(version=20), exporter=PytorchExporter(kind="dynamo")
    )
    export.run(spec, {}, tmp_path)
    for name in (MODEL_FILE, "model.onnx.data"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


def test_the_report_names_limits_and_architecture(exported: Path) -> None:
    facts = read_report(exported / "report.json").facts
    found = facts["components"]["model"]
    interface = Interface.of_facts(found["interface"])
    assert interface.limits() == {"sequence": 16}
    assert [value.below for value in interface.inputs] == [64, 0, 2]
    assert found["architecture"] == {
        "model_type": "bert",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    assert (facts["unexpected_keys"], facts["unexpected_keys_count"]) == ([], 0)
    assert json.dumps(facts)


def test_the_report_names_at_most_twenty_tensors_that_the_model_has_no_place_for(tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    out.mkdir()
    transformers.BertModel(transformers.BertConfig(**CONFIG)).save_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    more = {f"encoder.layer.1.tensor{number:02}": torch.zeros(1) for number in range(23)}
    save_file(stored | more, folder / "model.safetensors", {"format": "pt"})
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    spec = ExportSpec(
        model=StageModel(source=FolderFiles(kind="folder", files=files)),
        task="feature-extraction",
        opset=Opset(version=20),
        exporter=PytorchExporter(kind="dynamo"),
    )
    facts = export.run(spec, {"source": folder}, out).facts
    assert facts["unexpected_keys"] == sorted(more)[:20]
    assert facts["unexpected_keys_count"] == 23


def test_a_model_without_the_task_is_refused(tmp_path: Path) -> None:
    source = InitSource(kind="init", architecture="ViTModel", config={"hidden_size": 32, "num_attention_heads": 2})
    spec = ExportSpec(
        model=StageModel(source=source),
        task="fill-mask",
        opset=Opset(version=20),
        exporter=PytorchExporter(kind="dynamo"),
    )
    with pytest.raises(ExportError, match="transformers has no fill-mask model for model_type 'vit'"):
        export.run(spec, {}, tmp_path)


@pytest.mark.parametrize(
    ("axis", "threshold", "held"),
    [
        (0, 4, "the model branches on batch: what was exported holds for 0 to 4 only"),
        (0, 2, "the model branches on batch: what was exported holds for 3 and more only"),
        (1, 10, "the model branches on sequence: what was exported holds for 0 to 10 only"),
    ],
)
def test_a_branch_on_the_size_of_the_inputs_is_refused(
    axis: int, threshold: int, held: str, tiny: StageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter itself drops the guard, and its graph is wrong beyond it."""
    forward = transformers.BertModel.forward

    def branching(self: torch.nn.Module, input_ids: torch.Tensor, **other: torch.Tensor) -> Any:
        result = forward(self, input_ids, **other)
        if input_ids.shape[axis] > threshold:
            result.last_hidden_state = result.last_hidden_state * 2
        return result

    branching.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(transformers.BertModel, "forward", branching)
    spec = ExportSpec(
        model=tiny, task="feature-extraction", opset=Opset(version=20), exporter=PytorchExporter(kind="dynamo")
    )
    with pytest.raises(ExportError, match=held):
        export.run(spec, {}, tmp_path)


GPT2: dict[str, Any] = {"vocab_size": 30, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        (
            "GPT2ForSequenceClassification",
            GPT2 | {"bos_token_id": 1, "eos_token_id": 1},
            "PyTorch cannot run it on a batch: Cannot handle batch sizes > 1 if no padding token is defined.: GPT2For",
        ),
    ],
)
def test_a_model_that_does_not_run_is_one_line(
    architecture: str, config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    spec = ExportSpec(
        model=StageModel(source=InitSource(kind="init", architecture=architecture, config=config)),
        task="text-classification",
        opset=Opset(version=20),
        exporter=PytorchExporter(kind="dynamo"),
    )
    with pytest.raises(ExportError) as caught:
        export.run(spec, {}, tmp_path)
    (line,) = caught.value.lines()
    assert words in line
