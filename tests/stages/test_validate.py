"""validate: a first real gate. Every check has a model that fails it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from onnx import numpy_helper

from modelbuild.diagnosis.diagnose import Diagnosis
from modelbuild.errors import ValidationError
from modelbuild.graph import MODEL_FILE
from modelbuild.precision_spec import Fp32Precision
from modelbuild.report import Report, require_passed, write_report
from modelbuild.spec import Opset, Optimization, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import OptimizeSpec, SidecarSpec, StageModel, ValidateSpec
from modelbuild.stages import optimize, sidecar, validate

pytestmark = pytest.mark.slow
STRICT = Validation(
    kind="strict", batch_sizes=(1, 3), sequence_lengths=(2, 9), include_maximum=True, cover_embeddings=True
)
SCHEMA = Path(__file__).parents[2] / "docs" / "validation.schema.json"
FEED_FORWARD = "intermediate.dense.weight"


@pytest.fixture
def inputs(exported: Path, tiny: StageModel, tmp_path: Path) -> dict[str, Path]:
    """The export, the same as the optimize stage leaves it when nothing is asked of it, and the sidecar files."""
    folders = {"export": exported, "optimize": tmp_path / "optimize", "sidecar": tmp_path / "sidecar"}
    for name in ("optimize", "sidecar"):
        folders[name].mkdir()
    unchanged = OptimizeSpec(optimization=Optimization(kind="none"), precision=Fp32Precision(kind="fp32"))
    write_report(optimize.run(unchanged, folders, folders["optimize"]), folders["optimize"] / "report.json")
    spec = SidecarSpec(model=tiny, task="feature-extraction", sidecar=Sidecar(kind="auto"))
    write_report(sidecar.run(spec, {}, folders["sidecar"]), folders["sidecar"] / "report.json")
    return folders


def _validate(
    tiny: StageModel, inputs: dict[str, Path], validation: Validation = STRICT, opset: int | str = 20
) -> Report:
    spec = ValidateSpec(
        model=tiny,
        task="feature-extraction",
        opset=Opset.model_validate({"version": opset}),
        precision=Fp32Precision(kind="fp32"),
        providers=Providers(order=("cpu",)),
        session=Session(),
        validation=validation,
    )
    return validate.run(spec, inputs, inputs["optimize"])


def _failed(report: Report) -> set[str]:
    return {check.name for check in report.failures()}


def _edit(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / MODEL_FILE)
    change(model)
    onnx.save(model, folder / MODEL_FILE)


def _initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    if name == FEED_FORWARD:  # the exporter transposes it, and calls it what it likes
        return next(item for item in model.graph.initializer if list(item.dims) == [32, 48])
    return next(item for item in model.graph.initializer if item.name.endswith(name))


def _change(model: onnx.ModelProto, name: str, index: tuple[int, ...], by: float) -> None:
    tensor = _initializer(model, name)
    values = numpy_helper.to_array(tensor).copy()
    values[index] += by
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def test_the_export_passes_and_says_how_close_it_is(tiny: StageModel, inputs: dict[str, Path]) -> None:
    report = _validate(tiny, inputs)
    assert report.passed, report.failures()
    parity = next(check for check in report.checks if check.name == "parity.last_hidden_state")
    assert parity.worst is not None
    assert parity.limit is not None
    assert 0 < parity.worst < parity.limit < 1e-4
    assert report.metrics is not None
    assert report.metrics["failed"] == 0


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("embeddings.word_embeddings.weight", (63, 5)),
        ("embeddings.position_embeddings.weight", (15, 5)),
        ("embeddings.token_type_embeddings.weight", (1, 5)),
        (FEED_FORWARD, (3, 7)),
    ],
)
def test_one_changed_element_is_found(
    name: str, index: tuple[int, ...], tiny: StageModel, inputs: dict[str, Path]
) -> None:
    _edit(inputs["optimize"], lambda model: _change(model, name, index, 0.01))
    failures = {check.name: check.where for check in _validate(tiny, inputs).failures()}
    assert "onnx " in failures["parity.last_hidden_state"]
    assert f"[{', '.join(map(str, index))}]" in failures["weights"] or name == FEED_FORWARD


def test_values_that_are_not_finite_are_counted(tiny: StageModel, inputs: dict[str, Path]) -> None:
    _edit(inputs["optimize"], lambda model: _change(model, FEED_FORWARD, (3, 7), float("nan")))
    assert {"parity.last_hidden_state", "finite.last_hidden_state"} <= _failed(_validate(tiny, inputs))


def _ignore_the_mask(model: onnx.ModelProto) -> None:
    """Feed what the mask is used for from the token ids, which are hardly ever 0."""
    for node in model.graph.node:
        node.input[:] = ["input_ids" if name == "attention_mask" else name for name in node.input]


def test_an_ignored_mask_is_found(tiny: StageModel, inputs: dict[str, Path]) -> None:
    _edit(inputs["optimize"], _ignore_the_mask)
    assert "parity.last_hidden_state" in _failed(_validate(tiny, inputs))


def _fix_the_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3


def _rename_an_axis(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[1].dim_param = "batch"


def _swap_inputs(model: onnx.ModelProto) -> None:
    values = [model.graph.input[1], model.graph.input[0], *model.graph.input[2:]]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]
    del model.graph.input[:]
    model.graph.input.extend(copies)


@pytest.mark.parametrize(
    ("change", "check"),
    [(_fix_the_batch, "symbolic axes"), (_rename_an_axis, "symbolic axes"), (_swap_inputs, "signature")],
)
def test_a_wrong_interface_is_found(
    change: Callable[[onnx.ModelProto], None], check: str, tiny: StageModel, inputs: dict[str, Path]
) -> None:
    _edit(inputs["optimize"], change)
    report = _validate(tiny, inputs)
    assert _failed(report) == {check}
    assert report.failures()[0].where


def test_another_opset_is_found(tiny: StageModel, inputs: dict[str, Path]) -> None:
    assert _failed(_validate(tiny, inputs, opset=18)) == {"opset"}


def test_a_file_may_have_any_opset_and_keeps_it(tiny: StageModel, inputs: dict[str, Path]) -> None:
    assert _validate(tiny, inputs, opset="auto").passed
    _edit(inputs["optimize"], lambda model: setattr(model.opset_import[0], "version", 21))
    report = _validate(tiny, inputs, opset="auto")
    (check,) = (check for check in report.checks if check.name == "opset")
    assert (check.passed, check.where) == (False, "graph: 21, exported: 20")


def test_a_config_for_another_task_is_found(tiny: StageModel, inputs: dict[str, Path]) -> None:
    path = inputs["sidecar"] / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}), encoding="utf-8")
    assert _failed(_validate(tiny, inputs)) == {"config architecture"}


@pytest.mark.parametrize("broken", [False, True])
def test_the_report_is_what_its_schema_says(broken: bool, tiny: StageModel, inputs: dict[str, Path]) -> None:
    if broken:
        _edit(inputs["optimize"], lambda model: _change(model, FEED_FORWARD, (3, 7), float("nan")))
    path = inputs["optimize"] / "validation.json"
    write_report(_validate(tiny, inputs), path)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["passed"] is not broken
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_a_failure_comes_with_a_diagnosis_of_two_lines(tiny: StageModel, inputs: dict[str, Path]) -> None:
    _edit(inputs["optimize"], lambda model: _change(model, FEED_FORWARD, (3, 7), 0.5))
    before = set(inputs["optimize"].iterdir())
    report = _validate(tiny, inputs)
    assert set(inputs["optimize"].iterdir()) == before
    with pytest.raises(ValidationError) as raised:
        require_passed(report)
    failure, place, cause = raised.value.lines()
    assert failure.startswith("error[VAL]: validation failed: weights: 1 (limit 0)")
    assert "first departs in encoder.layer.0.intermediate" in place
    assert "wrong with no padding, " in place
    assert cause.endswith("it is not what optimization=none makes of it: the file was changed since")


@pytest.mark.parametrize(("component", "place"), [("", "in encoder"), ("decoder_model", "decoder_model: in encoder")])
def test_a_diagnosis_says_first_which_of_several_graphs_it_is_of(component: str, place: str) -> None:
    found = validate._diagnosis_of(component, Diagnosis(place="in encoder", cause="fusion"))
    assert found == {"place": place, "cause": "fusion"}


def test_a_tolerance_can_be_given_instead_of_the_oracle(tiny: StageModel, inputs: dict[str, Path]) -> None:
    impossible = Validation(kind="quick", batch_sizes=(3,), sequence_lengths=(9,), rtol=0.0, atol=0.0)
    assert _failed(_validate(tiny, inputs, impossible)) == {"parity.last_hidden_state"}
