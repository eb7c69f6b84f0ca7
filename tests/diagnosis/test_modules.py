"""The first module that departs is named, in a plain graph and in a fused one."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import only_component, random_batch

from modelbuild.component import Named
from modelbuild.diagnosis.modules import Departure, Evidence, first_departure
from modelbuild.diagnosis.tensors import OpenGraph, module_outputs
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.graph import MODEL_FILE
from modelbuild.model_spec import InitSource
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import write_report
from modelbuild.samples import Batch
from modelbuild.spec import Opset, Optimization
from modelbuild.stage_spec import ExportSpec, OptimizeSpec, StageModel
from modelbuild.stages import export, optimize
from modelbuild.tasks import TASKS

pytestmark = pytest.mark.slow
TASK = TASKS["feature-extraction"]
MODEL = StageModel(
    source=InitSource(
        kind="init",
        architecture="BertModel",
        config={
            "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 48, "max_position_embeddings": 16,
        },
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return load_reference(MODEL, TASK, None)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenGraph]:
    """The same model by dynamo, as exported and with its attention fused."""
    folder = tmp_path_factory.mktemp("graphs")
    exported, fused = folder / "exported", folder / "fused"
    exported.mkdir()
    fused.mkdir()
    spec = ExportSpec(model=MODEL, task=TASK.name, opset=Opset(version=20), exporter=PytorchExporter(kind="dynamo"))
    write_report(export.run(spec, {}, exported), exported / "report.json")
    how = OptimizeSpec(optimization=Optimization(kind="transformer"), precision=Fp32Precision(kind="fp32"))
    optimize.run(how, {"export": exported}, fused)
    return {path.name: OpenGraph(path / MODEL_FILE, path) for path in (exported, fused)}


def batch_of(reference: torch.nn.Module, mask: str = "left") -> Batch:
    return random_batch(only_component(reference, TASK), batch=3, sequence=9, mask=mask)


def named(model: torch.nn.Module) -> Named:
    return only_component(model, TASK).module


def departure(graph: OpenGraph, model: torch.nn.Module, batch: Batch, calm: Batch | None = None) -> Departure | None:
    oracle = copy.deepcopy(model).double()

    def evidence(of: Batch) -> Evidence:
        return Evidence(
            batch=of,
            modules=module_outputs(named(model), of),
            oracle=module_outputs(named(oracle), of),
            tensors=graph.tensors(of),
        )

    return first_departure(graph, evidence(batch), evidence(calm) if calm else None, TASK.unused_weights)


def changed(model: torch.nn.Module, parameter: str) -> torch.nn.Module:
    """The model with one element of one parameter changed."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        values = dict(other.named_parameters())[parameter]
        values[(1, 5)[: values.ndim]] += 0.3
    return other


@pytest.mark.parametrize("kind", ["exported", "fused"])
def test_a_graph_that_is_right_departs_nowhere(
    kind: str, graphs: dict[str, OpenGraph], reference: torch.nn.Module
) -> None:
    assert departure(graphs[kind], reference, batch_of(reference)) is None


@pytest.mark.parametrize(
    "module",
    [
        "embeddings.word_embeddings",
        "embeddings.LayerNorm",
        "encoder.layer.0.attention.self.query",
        "encoder.layer.0.attention.self.value",
        "encoder.layer.0.output.dense",
        "encoder.layer.1.intermediate.dense",
        "encoder.layer.1.output.LayerNorm",
    ],
)
def test_the_module_whose_weight_differs_is_named(
    module: str, graphs: dict[str, OpenGraph], reference: torch.nn.Module
) -> None:
    batch = batch_of(reference)
    if module == "embeddings.word_embeddings":
        batch.inputs["input_ids"][0] = 1
    found = departure(graphs["exported"], changed(reference, f"{module}.weight"), batch)
    assert found is not None, module
    assert found.module == module
    assert found.class_name in ("Embedding", "LayerNorm", "Linear")
    assert found.share is not None
    assert found.share > 1e-5
    assert found.operator in ("Gather", "LayerNormalization", "MatMul", "Add")


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_what_a_fused_operator_hides_is_named_by_what_it_gives(
    part: str, graphs: dict[str, OpenGraph], reference: torch.nn.Module
) -> None:
    found = departure(
        graphs["fused"], changed(reference, f"encoder.layer.0.attention.self.{part}.weight"), batch_of(reference)
    )
    assert found is not None
    assert (found.module, found.operator) == ("encoder.layer.0.attention.self", "com.microsoft.Attention")
    assert found.class_name == "BertSdpaSelfAttention"


def test_a_batch_that_comes_out_right_tells_which_tensor_is_which(
    graphs: dict[str, OpenGraph], reference: torch.nn.Module
) -> None:
    """A mask that means something else in the graph: without padding there is no difference."""
    batch, calm = batch_of(reference, "left"), batch_of(reference, "ones")
    turned = {"attention_mask": batch.inputs["attention_mask"][:, ::-1].copy()}
    other = Batch(kind="left padding", interface=batch.interface, inputs=batch.inputs | turned)
    oracle = copy.deepcopy(reference).double()
    failing = Evidence(
        batch=batch,
        modules=module_outputs(named(reference), batch),
        oracle=module_outputs(named(oracle), batch),
        tensors=graphs["fused"].tensors(other),
    )
    right = Evidence(
        batch=calm,
        modules=module_outputs(named(reference), calm),
        oracle=module_outputs(named(oracle), calm),
        tensors=graphs["fused"].tensors(calm),
    )
    found = first_departure(graphs["fused"], failing, right, TASK.unused_weights)
    assert found is not None
    assert (found.module, found.operator) == ("encoder.layer.0.attention.self", "com.microsoft.Attention")
