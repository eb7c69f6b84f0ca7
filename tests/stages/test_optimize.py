"""optimize: what a candidate emits loads, keeps its signature and matches the export, or it is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from modelbuild import candidates
from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.spec import Optimization, Precision
from modelbuild.stage_spec import OptimizeSpec
from modelbuild.stages import optimize

pytestmark = pytest.mark.slow


def _spec(kind: str) -> OptimizeSpec:
    return OptimizeSpec(
        optimization=Optimization.model_validate({"kind": kind}),
        precision=Precision(kind="fp32"),
    )


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
    assert report.facts["operators"]["com.microsoft.Attention"] == 1
    assert report.facts["nodes"] < report.facts["nodes_before"]
    check = next(check for check in report.checks if check.name == "matches export")
    assert check.worst is not None
    assert check.worst < 1e-5


def test_a_saved_level_is_portable(exported: Path, tmp_path: Path) -> None:
    optimize.run(_spec("extended"), {"export": exported}, tmp_path)
    assert set(read_graph(tmp_path / MODEL_FILE).opsets) <= {"", "com.microsoft"}


def _candidate(harm: object) -> ModuleType:
    module = ModuleType("candidate_for_a_test")

    def run(kind: str, source: Path, facts: object, out: Path) -> None:
        for name in (MODEL_FILE, "model.onnx.data"):
            shutil.copyfile(source / name, out / name)
        model = onnx.load(out / MODEL_FILE)
        harm(model)  # type: ignore[operator]
        onnx.save(model, out / MODEL_FILE)

    module.optimize = run  # type: ignore[attr-defined]
    return module


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
    [(_wrong_weight, "does not match"), (_other_output, "another signature"), (_unloadable, "does not run")],
)
def test_a_candidate_that_harms_the_model_is_refused(
    harm: object, message: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = _candidate(harm)
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    monkeypatch.setitem(candidates.CANDIDATES, "none", module.__name__)
    with pytest.raises(OptimizeError, match=message):
        optimize.run(_spec("none"), {"export": exported}, tmp_path)
