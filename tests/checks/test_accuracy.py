"""The gate of a reduced precision: what quantization costs passes, and faults of the same graph do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from checks.plain_graphs import plain_runs
from defects.graphs import Graph
from defects.models import MODELS, Build, make
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from modelbuild.checks.accuracy import judged_batches
from modelbuild.checks.numbers import compare_all
from modelbuild.checks.runs import Runs
from modelbuild.component import Tensors
from modelbuild.graph import MODEL_FILE
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.precision_spec import Fp32Precision, HalfPrecision, Int8Precision, Precision
from modelbuild.report import Report, write_report
from modelbuild.spec import Opset, Providers, Session, Validation
from modelbuild.stage_spec import ValidateSpec
from modelbuild.stages import validate

SCHEMA = Path(__file__).parents[2] / "docs" / "validation.schema.json"
INT8 = Int8Precision(kind="int8", min_cosine=0.999, min_top_1=0.95, max_fp32_layers=0)
SOME = Validation(
    kind="quick", batch_sizes=(1, 3), sequence_lengths=(2, 9), masks_per_size=3, include_maximum=True,
    cover_embeddings=True,
)  # fmt: skip

IMAGES = Interface(
    inputs=(Input(name="x", dtype="float32", shape=("batch", 16)),),
    outputs=(Output(name="y", shape=("batch",), meaning="embeddings"),),
    axes=(Axis(name="batch", kind="batch"),),
)


def negated(inputs: Tensors) -> Tensors:
    return {"y": -inputs["x"]}


def of_images(folder: Path, precision: Precision, through: int) -> Runs:
    """A graph that gives what it takes, negated, and rounded to another type on the way."""
    nodes = (
        helper.make_node("Cast", ["x"], ["small"], to=through),
        helper.make_node("Cast", ["small"], ["back"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Neg", ["back"], ["y"]),
    )
    runs = plain_runs(folder, IMAGES, negated, nodes)
    subject = replace(runs.subject, spec=runs.subject.spec.model_copy(update={"precision": precision}))
    return Runs(subject)


def asked(cosine: float) -> Precision:
    return HalfPrecision(kind="fp16", min_cosine=cosine, min_top_1=0.99)


def failed(runs: Runs) -> set[str]:
    return {check.name for check in compare_all(runs).checks if not check.passed}


def test_half_precision_passes_its_own_gate_and_not_that_of_fp32(tmp_path: Path) -> None:
    runs = of_images(tmp_path, asked(0.99999), onnx.TensorProto.FLOAT16)
    assert not failed(runs)
    exact = replace(runs.subject, spec=runs.subject.spec.model_copy(update={"precision": Fp32Precision(kind="fp32")}))
    assert "parity.y" in failed(Runs(exact))


def test_less_than_was_asked_fails_and_names_the_batch(tmp_path: Path) -> None:
    numbers = compare_all(of_images(tmp_path, asked(0.99), onnx.TensorProto.INT8))
    (check,) = (check for check in numbers.checks if not check.passed)
    assert check.name == "accuracy.y"
    assert check.where.startswith("seeded 2, row ")
    assert numbers.judged.failing is not None
    assert numbers.judged.line.startswith("fp16: worst cosine 0.")


def test_tolerances_that_are_given_replace_what_is_usual_and_not_the_accuracy(tmp_path: Path) -> None:
    runs = of_images(tmp_path, asked(0.99999), onnx.TensorProto.FLOAT16)
    spec = runs.subject.spec
    zero = spec.model_copy(update={"validation": Validation(kind="quick", rtol=0.0, atol=0.0)})
    found = compare_all(Runs(replace(runs.subject, spec=zero))).checks
    assert {check.name for check in found if not check.passed} == {"parity.y"}
    assert "accuracy.y" in {check.name for check in found}


def test_a_graph_that_does_not_run_is_not_accurate(tmp_path: Path) -> None:
    nodes = (helper.make_node("Gather", ["x", "far"], ["y"], axis=1),)
    runs = plain_runs(tmp_path, IMAGES, negated, nodes, weights={"far": [99]})
    subject = replace(runs.subject, spec=runs.subject.spec.model_copy(update={"precision": INT8}))
    assert failed(Runs(subject)) == {"accuracy.y", "parity.y"}


def test_what_reads_no_text_is_judged_by_seeded_inputs(tmp_path: Path) -> None:
    runs = of_images(tmp_path, INT8, onnx.TensorProto.FLOAT16)
    assert [batch.label for batch in judged_batches(runs.subject)] == ["seeded 2"] * 5


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A BERT of two layers with all of its linear layers quantized."""
    model = replace(MODELS["bert"], optimization="multi_head_attention", tokenizer=True)
    build = make(model, tmp_path_factory.mktemp("int8"))
    file = build.folders["optimize"] / MODEL_FILE
    quantize_dynamic(file, file, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    return build


def spec_of(build: Build) -> ValidateSpec:
    return ValidateSpec(
        model=build.stage_model,
        task="feature-extraction",
        opset=Opset(version=20),
        precision=INT8,
        providers=Providers(order=("cpu",)),
        session=Session(intra_op_num_threads=1),
        validation=SOME,
    )


def planted(build: Build, to: Path, fault: Callable[[Graph], None]) -> Build:
    copy = build.copy(to)
    file = copy.folders["optimize"] / MODEL_FILE
    model = onnx.load(file)
    fault(Graph(model))
    shutil.rmtree(copy.folders["optimize"] / f"{MODEL_FILE}.data", ignore_errors=True)
    onnx.save(model, file)
    return copy


def report_of(build: Build) -> Report:
    """What validate reports, but for the account of the weights, which is not about numbers."""
    report = validate.run(spec_of(build), build.inputs("export", "optimize", "sidecar"), build.folders["optimize"])
    checks = tuple(check for check in report.checks if not check.name.startswith("weights"))
    return replace(report, checks=checks)


@pytest.mark.slow
def test_what_quantization_costs_passes_and_is_told(int8: Build, tmp_path: Path) -> None:
    report = report_of(int8)
    assert report.passed, [check.line() for check in report.failures()]
    (line,) = report.facts["accuracy"]
    assert line.startswith("int8: worst cosine 0.99")
    assert " of 200 sentences, mean cosine " in line
    write_report(report, tmp_path / "validation.json")
    written = json.loads((tmp_path / "validation.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, json.loads(SCHEMA.read_text(encoding="utf-8")))


def layers(graph: Graph) -> list[onnx.NodeProto]:
    return graph.ops("MatMulInteger")


def lengths_for_a_mask(graph: Graph) -> None:
    """As many tokens at the front as the mask has anywhere: right for padding on the right, and for no other."""
    counted = helper.make_node(
        "ReduceSum", ["attention_mask", graph.constant([1], np.int64)], ["planted_count"], keepdims=1
    )
    ones = helper.make_node("Equal", ["attention_mask", "attention_mask"], ["planted_same"])
    whole = helper.make_node("Cast", ["planted_same"], ["planted_ones"], to=onnx.TensorProto.INT64)
    places = helper.make_node("CumSum", ["planted_ones", graph.constant(1, np.int64)], ["planted_places"])
    within = helper.make_node("LessOrEqual", ["planted_places", "planted_count"], ["planted_within"])
    mask = helper.make_node("Cast", ["planted_within"], ["planted_mask"], to=onnx.TensorProto.INT64)
    graph.rewire("attention_mask", "planted_mask")
    for place, node in enumerate((counted, ones, whole, places, within, mask)):
        node.input[:] = ["attention_mask" if name == "planted_mask" else name for name in node.input]
        graph.nodes.insert(place, node)


def a_scale_is_doubled(graph: Graph) -> None:
    graph.change(layers(graph)[3].input[1].removesuffix("_quantized") + "_scale", lambda values: 2 * values)


def two_layers_are_swapped(graph: Graph) -> None:
    """The attention outputs of the two layers: scales and biases stay where they are."""
    first, second = (node for node in layers(graph) if layers(graph).index(node) in (3, 9))
    first.input[1], second.input[1] = second.input[1], first.input[1]


def a_zero_point_is_wrong(graph: Graph) -> None:
    """Of the layer that reads what GELU gives, which is positive mostly, so that it does not cancel out."""
    graph.change(layers(graph)[5].input[3], lambda values: (values + 24).astype(values.dtype))


def one_row_is_anothers(graph: Graph) -> None:
    def change(table: np.ndarray) -> None:
        table[157] = table[158]

    graph.change("embeddings.word_embeddings.weight", change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "check", "where"),
    [
        (lengths_for_a_mask, "parity.last_hidden_state", "left padding|holes|one token|an empty row"),
        (a_scale_is_doubled, "accuracy.last_hidden_state", "real text"),
        (two_layers_are_swapped, "accuracy.last_hidden_state", "real text"),
        (a_zero_point_is_wrong, "accuracy.last_hidden_state", "real text"),
        (one_row_is_anothers, "parity.last_hidden_state", "embeddings|left padding 2x23"),
    ],
)
def test_a_fault_in_a_quantized_graph_is_found(
    fault: Callable[[Graph], None], check: str, where: str, int8: Build, tmp_path: Path
) -> None:
    build = planted(int8, tmp_path, fault)
    subjects = validate._subjects(spec_of(build), build.inputs("export", "optimize", "sidecar"))
    found = {found.name: found for found in compare_all(Runs(subjects["model"])).checks if not found.passed}
    assert check in found, found
    assert any(found[check].where.startswith(kind) for kind in where.split("|")), found[check].where


@pytest.mark.slow
def test_the_diagnosis_of_a_quantized_graph_blames_its_precision(int8: Build, tmp_path: Path) -> None:
    report = report_of(planted(int8, tmp_path, a_scale_is_doubled))
    found = report.facts["diagnosis"]
    assert "wrong with real text" in found["place"]
    assert found["cause"].endswith(
        "precision=int8 brings it in: what optimization=multi_head_attention makes of it in fp32 matches"
    )
