"""optimize: what a candidate emits loads, keeps its signature and matches the export, or it is refused."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.transformers.optimizer import optimize_model
from pydantic import ValidationError
from tiny_models import CONFIG, export_tiny, tiny_model

from modelbuild import candidates
from modelbuild.candidates import ort_level, transformer
from modelbuild.errors import OptimizeError
from modelbuild.fusions import torchscript
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.graph_match import match, wanted
from modelbuild.masks import MASKS
from modelbuild.precision_spec import Fp32Precision
from modelbuild.report import Report, read_report, write_report
from modelbuild.spec import Optimization
from modelbuild.stage_spec import OptimizeSpec
from modelbuild.stages import optimize
from modelbuild.tasks import TASKS
from modelbuild.text_limits import Limits, text_interface

pytestmark = pytest.mark.slow


def _spec(kind: str, *, require_fusion: bool = False) -> OptimizeSpec:
    return OptimizeSpec(
        optimization=Optimization.model_validate({"kind": kind, "require_fusion": require_fusion}),
        precision=Fp32Precision(kind="fp32"),
    )


def _model(report: Report) -> Mapping[str, Any]:
    found: Mapping[str, Any] = report.facts["components"]["model"]
    return found


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["none", "basic", "extended", "transformer"])
def test_every_optimization_matches_its_input_and_leaves_it_alone(kind: str, exported: Path, tmp_path: Path) -> None:
    before = _content(exported)
    report = optimize.run(_spec(kind), {"export": exported}, tmp_path)
    assert report.passed
    assert _content(exported) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]


def test_transformer_fuses_attention_and_keeps_the_mask_as_it_is(exported: Path, tmp_path: Path) -> None:
    report = optimize.run(_spec("transformer"), {"export": exported}, tmp_path)
    assert _model(report)["operators"]["com.microsoft.Attention"] == 1
    assert _model(report)["nodes"] < _model(report)["nodes_before"]
    check = next(check for check in report.checks if check.name == "matches export")
    assert check.worst is not None
    assert check.worst < 1e-5


def test_a_graph_that_came_in_a_file_is_fused_by_what_it_looks_like(exported: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "export", tmp_path / "out"
    shutil.copytree(exported, source)
    out.mkdir()
    report = read_report(source / "report.json")
    write_report(replace(report, facts={**report.facts, "exporter": "file"}), source / "report.json")
    found = optimize.run(_spec("transformer"), {"export": source}, out)
    assert _model(found)["operators"]["com.microsoft.Attention"] == 1


def test_a_saved_level_is_portable(exported: Path, tmp_path: Path) -> None:
    optimize.run(_spec("extended"), {"export": exported}, tmp_path)
    assert set(read_graph(tmp_path / MODEL_FILE).opsets) <= {"", "com.microsoft"}


def _candidate(harm: object) -> ModuleType:
    module = ModuleType("candidate_for_a_test")

    def run(
        kind: str,
        source: Path,
        facts: object,
        out: Path,
        without: frozenset[str] = frozenset(),
        custom_ops: Sequence[str] = (),
    ) -> None:
        for name in (MODEL_FILE, "model.onnx.data"):
            shutil.copyfile(source.parent / name, out.parent / name)
        model = onnx.load(out)
        harm(model)  # type: ignore[operator]
        onnx.save(model, out)

    module.optimize = run  # type: ignore[attr-defined]
    module.fusions = lambda kind, facts: ("one", "two")  # type: ignore[attr-defined]
    return module


def _register(monkeypatch: pytest.MonkeyPatch, kind: str, module: ModuleType) -> None:
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(candidates.CANDIDATES, kind, module.__name__)


def _wrong_weight(model: onnx.ModelProto) -> None:
    tensor = next(item for item in model.graph.initializer if list(item.dims) == [32, 48])
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0] += 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _other_output(model: onnx.ModelProto) -> None:
    old = model.graph.output[0].name
    model.graph.output[0].name = "renamed"
    for node in model.graph.node:
        node.output[:] = ["renamed" if name == old else name for name in node.output]


def _unloadable(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "NoSuchOperator"


@pytest.mark.parametrize(
    ("harm", "message"),
    [(_wrong_weight, "does not match"), (_other_output, "does not keep the signature"), (_unloadable, "does not run")],
)
def test_a_candidate_that_harms_the_model_is_refused_with_one_that_does_not(
    harm: object, message: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _register(monkeypatch, "extended", _candidate(harm))
    with pytest.raises(OptimizeError, match=f"{message}.*it is no fusion's fault.*extended: choose optimization=basic"):
        optimize.run(_spec("extended"), {"export": exported}, tmp_path)


def test_a_candidate_that_leaves_nothing_out_blames_no_fusion(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = _candidate(_wrong_weight)
    module.fusions = lambda kind, facts: ()  # type: ignore[attr-defined]
    _register(monkeypatch, "extended", module)
    with pytest.raises(OptimizeError) as caught:
        optimize.run(_spec("extended"), {"export": exported}, tmp_path)
    (line,) = caught.value.lines()
    assert line.endswith(": extended: choose optimization=basic")
    assert "; :" not in line


def test_a_graph_that_nothing_makes_right_is_blamed_on_the_exporter(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _register(monkeypatch, "none", _candidate(_unloadable))
    with pytest.raises(OptimizeError, match=r"does not run.*choose another exporter"):
        optimize.run(_spec("none"), {"export": exported}, tmp_path)


def _with_lengths_for_a_mask() -> ModuleType:
    """The transformer candidate with ONNX Runtime's default mask for BERT: a length, which is right padding only."""
    module = ModuleType("candidate_with_lengths")

    def fuse(kind: str, source: Path, facts: Any, out: Path, without: frozenset[str] = frozenset(), *_: object) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            fused = Path(scratch) / MODEL_FILE
            options = torchscript.fusion_options(without)
            options.use_raw_attention_mask(False)
            optimize_model(
                str(source), model_type="bert", num_heads=2, hidden_size=32, opt_level=0,
                optimization_options=options,
            ).save_model_to_file(str(fused), use_external_data_format=True)  # fmt: skip
            ort_level.save_optimized(fused, "extended", out, without)

    module.optimize = fuse  # type: ignore[attr-defined]
    module.fusions = transformer.fusions  # type: ignore[attr-defined]
    return module


def test_the_fusion_that_counts_on_right_padding_is_found(
    exported_by_optimum: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _register(monkeypatch, "transformer", _with_lengths_for_a_mask())
    with pytest.raises(OptimizeError) as caught:
        optimize.run(_spec("transformer"), {"export": exported_by_optimum}, tmp_path)
    message = str(caught.value)
    assert message.startswith("the optimized graph does not match the exported one: matches export: ")
    assert any(f"at {MASKS[kind]}" in message for kind in ("left", "holes", "one"))
    assert message.endswith("without attention fusion it does: transformer: choose optimization=extended")


def test_onnxruntimes_fusions_of_a_torchscript_graph_match_with_the_mask_as_it_is(
    exported_by_optimum: Path, tmp_path: Path
) -> None:
    report = optimize.run(_spec("transformer"), {"export": exported_by_optimum}, tmp_path)
    assert report.passed
    assert report.facts["attention_fusions"] == ["1 of 1 layers (com.microsoft.Attention x 1)"]


def test_a_promise_that_was_kept_is_a_check_and_a_fact(exported: Path, tmp_path: Path) -> None:
    report = optimize.run(_spec("transformer", require_fusion=True), {"export": exported}, tmp_path)
    check = next(check for check in report.checks if check.name == "fusions")
    assert (check.passed, check.worst, check.limit) == (True, 1, 1)
    assert check.compared == "attention fusions: 1 of 1 layers (com.microsoft.Attention x 1)"
    assert _model(report)["fusions"]["com.microsoft.EmbedLayerNormalization"] == 1
    assert report.facts["warnings"] == []


@pytest.fixture(scope="module")
def albert_by_optimum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ALBERT of two layers, of which ONNX Runtime's optimizer finds the attention of one only."""
    model = tiny_model("AlbertModel", CONFIG | {"num_hidden_layers": 2, "embedding_size": 16})
    return export_tiny(model, tmp_path_factory.mktemp("albert"), exporter="optimum", opset=18)


def test_too_few_fusions_are_a_warning_and_no_failed_check(albert_by_optimum: Path, tmp_path: Path) -> None:
    report = optimize.run(_spec("transformer"), {"export": albert_by_optimum}, tmp_path)
    assert report.passed
    assert [check.name for check in report.checks] == ["matches export"]
    assert report.facts["warnings"] == ["attention is fused in 1 of 2 layers (com.microsoft.Attention x 1) only"]


def test_too_few_fusions_are_an_error_when_they_are_required(albert_by_optimum: Path, tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match=r"fused in 1 of 2 layers.*require_fusion=false takes it") as caught:
        optimize.run(_spec("transformer", require_fusion=True), {"export": albert_by_optimum}, tmp_path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("kind", ["none", "basic", "extended"])
def test_an_optimization_that_fuses_no_attention_cannot_be_required_to(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"={kind}, which promises none: add optimization=transformer"):
        Optimization.model_validate({"kind": kind, "require_fusion": True})


@pytest.mark.parametrize("value", ["yes", 1, None, "true"])
def test_require_fusion_is_true_or_false(value: object) -> None:
    with pytest.raises(ValidationError, match="valid boolean"):
        Optimization.model_validate({"kind": "transformer", "require_fusion": value})


IDS = text_interface(TASKS["fill-mask"], ("input_ids",), Limits(vocab_size=3, type_vocab_size=1, max_positions=16))


def _infinite_where_an_id_is_0(path: Path, *, factor: float = 1.0, sign: float = -1.0) -> Path:
    """A graph that gives `factor` times the ids, and an infinity in place of 0."""
    axes = ["batch", "sequence"]
    constants = {"factor": factor, "infinity": sign * float("inf")}
    nodes = [helper.make_node("Constant", [], [name], value_float=value) for name, value in constants.items()]
    nodes += [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ids", "factor"], ["scaled"]),
        helper.make_node("Cast", ["input_ids"], ["positive"], to=TensorProto.BOOL),
        helper.make_node("Where", ["positive", "scaled", "infinity"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes)]
    graph = helper.make_graph(nodes, "infinite", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_an_output_with_infinities_is_compared_where_it_is_finite(tmp_path: Path) -> None:
    exported = _infinite_where_an_id_is_0(tmp_path / "a")

    def worst(**changes: float) -> float | None:
        other = _infinite_where_an_id_is_0(tmp_path / "b", **changes)
        return match(wanted(exported, read_graph(exported).signature, IDS), other).worst

    assert worst() == 0
    assert worst(factor=1.5) == pytest.approx(0.5)
    assert worst(sign=1.0) == float("inf")


def _id_plus(path: Path, offset: float) -> Path:
    """A graph that gives each token's id, a little off."""
    axes = ["batch", "sequence"]
    nodes = [
        helper.make_node("Constant", [], ["offset"], value_float=offset),
        helper.make_node("Cast", ["input_ids"], ["exact"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["exact", "offset"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes)]
    graph = helper.make_graph(nodes, "ids", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("offset", "passed"), [(1e-5, True), (1e-3, False)])
def test_a_batch_of_values_close_to_zero_is_judged_by_those_of_all_batches(
    offset: float, passed: bool, tmp_path: Path
) -> None:
    exported, other = _id_plus(tmp_path / "a", 0.0), _id_plus(tmp_path / "b", offset)
    check = match(wanted(exported, read_graph(exported).signature, IDS), other)
    assert check.passed is passed
    assert check.worst == pytest.approx(offset / 2, rel=0.05)
