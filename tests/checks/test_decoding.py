"""Decoders proven as decoders, and graphs that are wrong as decoders: each is found by the check that it is for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from families.causal_checkpoints import POSITIONS, save_decoder
from tiny_classifier import failed, model_in

from modelbuild.exporter_spec import PytorchExporter
from modelbuild.graph import MODEL_FILE, data_file
from modelbuild.precision_spec import Fp32Precision
from modelbuild.report import Report, write_report
from modelbuild.spec import Opset, Optimization, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import ExportSpec, OptimizeSpec, SidecarSpec, ValidateSpec
from modelbuild.stages import export, optimize, sidecar, validate

pytestmark = pytest.mark.slow

CHECKS = {"decoding scores", "decoding recompute", "decoding padding", "decoding pieces", "decoding tokens"}


def _made(root: Path) -> Path:
    """The stages before validate, for the decoder in `root / "source"`, as they leave their outputs in `root`."""
    model, inputs = model_in(root / "source"), {name: root / name for name in ("source", "export")}
    fp32 = Fp32Precision(kind="fp32")
    stages = {
        "export": (
            export,
            ExportSpec(
                model=model,
                task="text-generation",
                opset=Opset(version=20),
                exporter=PytorchExporter(kind="dynamo"),
            ),
        ),
        "optimize": (optimize, OptimizeSpec(optimization=Optimization(kind="none"), precision=fp32)),
        "sidecar": (sidecar, SidecarSpec(model=model, task="text-generation", sidecar=Sidecar(kind="auto"))),
    }
    for name, (stage, spec) in stages.items():
        (root / name).mkdir()
        write_report(stage.run(spec, inputs, root / name), root / name / "report.json")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages before validate for a GPT-2, whose optimization changes nothing."""
    root = tmp_path_factory.mktemp("decoder")
    save_decoder(root / "source")
    return _made(root)


@pytest.fixture
def build(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "build"))


def _validate(root: Path) -> Report:
    spec = ValidateSpec(
        model=model_in(root / "source"),
        task="text-generation",
        opset=Opset(version=20),
        precision=Fp32Precision(kind="fp32"),
        providers=Providers(order=("cpu",)),
        session=Session(),
        validation=Validation(kind="quick", batch_sizes=(2,), sequence_lengths=(3,), masks=("ones", "left")),
    )
    inputs = {name: root / name for name in ("source", "export", "optimize", "sidecar")}
    return validate.run(spec, inputs, root / "optimize")


def _change(root: Path, plant: Callable[[ir.Model], None]) -> None:
    path = root / "optimize" / MODEL_FILE
    model = ir.load(path)
    plant(model)
    changed = root / "changed"
    changed.mkdir()
    ir.save(model, changed / MODEL_FILE, external_data=data_file(MODEL_FILE))
    for file in changed.iterdir():
        shutil.move(file, path.parent / file.name)


def _input(model: ir.Model, name: str) -> ir.Value:
    return next(value for value in model.graph.inputs if value.name == name)


def _output(model: ir.Model, name: str) -> ir.Value:
    return next(value for value in model.graph.outputs if value.name == name)


def _constant(model: ir.Model, name: str, *values: float, dtype: str = "int64") -> ir.Value:
    tensor = ir.tensor(np.array(values, dtype=dtype), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
    model.graph.initializers.add(value)
    return value


def _first(model: ir.Model, *nodes: ir.Node) -> ir.Value:
    """Put nodes before all others; gives the output of the last."""
    model.graph.insert_before(model.graph[0], nodes)
    return nodes[-1].outputs[0]


def _past(model: ir.Model) -> ir.Node:
    """The number of positions in the cache, as one of one."""
    return ir.node("Shape", [_input(model, "past_key_values.0.key")], {"start": 2, "end": 3})


def _instead(model: ir.Model, name: str, *nodes: ir.Node) -> None:
    """Have whoever reads the input `name` read what the last of `nodes` gives."""
    value = _input(model, name)
    readers = [(node, place) for node, place in value.uses() if node not in nodes]
    made = _first(model, *nodes)
    made.shape, made.type = value.shape, value.type
    for node, place in readers:
        node.replace_input_with(place, made)


def _last(model: ir.Model, name: str, *nodes: ir.Node) -> None:
    """Give what the last of `nodes` gives under the name of the output `name`, which they may read."""
    value = _output(model, name)
    model.graph.extend(nodes)
    place, made = model.graph.outputs.index(value), nodes[-1].outputs[0]
    made.shape, made.type = value.shape, value.type
    value.name, made.name = f"{name}.before", name
    model.graph.outputs[place] = made


def positions_off_by_one_with_a_cache(model: ir.Model) -> None:
    past = _past(model)
    some = ir.node("Min", [past.outputs[0], _constant(model, "one", 1)])
    _instead(model, "position_ids", past, some, ir.node("Add", [_input(model, "position_ids"), some.outputs[0]]))


def _swap(model: ir.Model, one: str, other: str) -> None:
    first, second = _output(model, one), _output(model, other)
    places = [model.graph.outputs.index(value) for value in (first, second)]
    first.name, second.name = "swapped", one
    first.name = other
    model.graph.outputs[places[0]], model.graph.outputs[places[1]] = second, first


def cache_of_two_layers_swapped(model: ir.Model) -> None:
    _swap(model, "present.0.key", "present.1.key")


def keys_and_values_swapped(model: ir.Model) -> None:
    _swap(model, "present.1.key", "present.1.value")


def mask_ignores_the_past(model: ir.Model) -> None:
    """What is in the cache is seen, padding or not."""
    mask, past = _input(model, "attention_mask"), _past(model)
    shape = ir.node("Shape", [mask])
    end = ir.node("Slice", [shape.outputs[0], *(_constant(model, f"e{n}", n) for n in (1, 2))])
    start, axis = past.outputs[0], _constant(model, "axis", 1)
    new = ir.node("Slice", [mask, start, end.outputs[0], axis])
    old = ir.node("Slice", [mask, _constant(model, "zero", 0), start, axis])
    seen = ir.node("Max", [old.outputs[0], _constant(model, "seen", 1)])
    joined = ir.node("Concat", [seen.outputs[0], new.outputs[0]], {"axis": 1})
    _instead(model, "attention_mask", past, shape, end, new, old, seen, joined)


def cache_not_appended(model: ir.Model) -> None:
    """Zeros where the keys of the new positions belong."""
    present, past = _output(model, "present.0.key"), _input(model, "past_key_values.0.key")
    length, axis = ir.node("Shape", [past], {"start": 2, "end": 3}), _constant(model, "axis", 2)
    far = _constant(model, "far", 1 << 40)
    new = ir.node("Slice", [present, length.outputs[0], far, axis])
    none = ir.node("Mul", [new.outputs[0], _constant(model, "none", 0.0, dtype="float32")])
    _last(
        model, "present.0.key", length, new, none, ir.node("Concat", [past, none.outputs[0]], {"axis": 2})
    )  # fmt: skip


def padding_is_seen(model: ir.Model) -> None:
    mask = _input(model, "attention_mask")
    _instead(model, "attention_mask", ir.node("Max", [mask, _constant(model, "seen", 1)]))


def another_token_after_a_cache(model: ir.Model) -> None:
    """One score is far too large when there are more than 20 positions in the cache."""
    past, scores = _past(model), _output(model, "logits")
    many = ir.node("Greater", [past.outputs[0], _constant(model, "many", 20)])
    cast = ir.node("Cast", [many.outputs[0]], {"to": ir.DataType.FLOAT})
    bump = ir.node("Mul", [cast.outputs[0], _constant(model, "bump", *([0] * 5 + [100] + [0] * 58), dtype="float32")])
    _last(model, "logits", past, many, cast, bump, ir.node("Add", [scores, bump.outputs[0]]))


DEFECTS: dict[Callable[[ir.Model], None], set[str]] = {
    positions_off_by_one_with_a_cache: CHECKS - {"decoding padding"},
    cache_of_two_layers_swapped: CHECKS - {"decoding padding"},
    keys_and_values_swapped: CHECKS - {"decoding padding"},
    mask_ignores_the_past: {"decoding padding"},
    cache_not_appended: CHECKS - {"decoding padding"},
    padding_is_seen: {"decoding padding"},
    another_token_after_a_cache: CHECKS - {"decoding padding"},
}


def test_a_decoder_that_is_right_passes_every_check(build: Path) -> None:
    report = _validate(build)
    assert report.passed, failed(report.checks)
    assert {check.name for check in report.checks} >= CHECKS
    assert "ties" not in next(check.compared for check in report.checks if check.name == "decoding tokens")


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_defect_is_found_by_the_checks_that_it_is_for(plant: Callable[[ir.Model], None], build: Path) -> None:
    _change(build, plant)
    found = failed(_validate(build).checks)
    assert CHECKS & found.keys() >= DEFECTS[plant], found


def test_the_first_other_token_is_told_with_its_step_and_the_margin(build: Path) -> None:
    _change(build, another_token_after_a_cache)
    found = failed(_validate(build).checks)
    assert "a prompt of 7, step 16: 5 where PyTorch has " in found["decoding tokens"]
    assert "; ours is off by 100" in found["decoding tokens"]


def test_a_graph_that_fails_beyond_a_length_is_told_and_no_exception(build: Path) -> None:
    def plant(model: ir.Model) -> None:
        past, positions = _past(model), _input(model, "position_ids")
        looked_up = ir.node("Gather", [_constant(model, "table", *([0] * 20)), past.outputs[0]])
        _instead(
            model,
            "position_ids",
            past,
            looked_up,
            ir.node("Add", [positions, looked_up.outputs[0]]),
        )

    _change(build, plant)
    found = failed(_validate(build).checks)
    assert "does not run: " in found["decoding scores"]
    assert "decoding tokens" not in found


def test_a_tie_is_said_and_no_failure(tmp_path: Path) -> None:
    root = tmp_path / "build"
    root.mkdir()
    model = save_decoder(root / "source", tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight[32:] = model.lm_head.weight[:32]
    model.save_pretrained(root / "source")
    _made(root)

    def plant(graph: ir.Model) -> None:
        scores = _output(graph, "logits")
        more = _constant(graph, "more", *([1.0] * 32 + [1 + 2**-22] * 32), dtype="float32")
        _last(graph, "logits", ir.node("Mul", [scores, more]))

    _change(root, plant)
    report = _validate(root)
    tokens = next(check for check in report.checks if check.name == "decoding tokens")
    assert tokens.passed
    assert tokens.worst == 0
    assert " ties" in tokens.compared
    assert "a tie: " in tokens.where
    assert "by 0; ours is off by " in tokens.where


def test_a_model_of_few_positions_is_tried_with_as_many_tokens_as_fit(tmp_path: Path) -> None:
    root = tmp_path / "build"
    root.mkdir()
    save_decoder(root / "source", n_positions=6)
    report = _validate(_made(root))
    assert report.passed, failed(report.checks)
    assert "6 greedy tokens" in next(check.compared for check in report.checks if check.name == "decoding tokens")
    assert POSITIONS > 6
