"""Sensitive layers: the one that was planted is found, and no more are kept in fp32 than the measure needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from precisions.linear_graphs import INPUTS, graph_file, outputs_of, some, tensors

from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, data_file
from modelbuild.precision_spec import Int8Precision
from modelbuild.precisions import int8
from modelbuild.precisions.sensitivity import Kept, layer_errors, reduce_within

PRECISION = Int8Precision(kind="int8", max_fp32_layers=8, min_cosine=0, min_top_1=0)
BATCHES = [some(20, seed) for seed in range(3)]
LAYERS = tuple(f"layer{number}" for number in range(6))


def _chain(folder: Path, *sensitive: str) -> Path:
    """Layers one behind the other. A sensitive one has weights in each column of which one is far larger than others,
    for a channel that is small: no factor evens that out for all columns.
    """
    rng = np.random.default_rng(3)
    nodes, weights, read = [], {}, "x"
    for name in LAYERS:
        matrix = rng.standard_normal((INPUTS, INPUTS)) / np.sqrt(INPUTS)
        if name in sensitive:
            matrix[rng.permutation(INPUTS), np.arange(INPUTS)] *= 40
        weights[f"{name}.weight"] = matrix.astype(np.float32)
        nodes.append(helper.make_node("MatMul", [read, f"{name}.weight"], [f"{name}.product"], name=name))
        nodes.append(helper.make_node("Tanh", [f"{name}.product"], [name]))
        read = name
    nodes[-1].output[0] = "y"
    return graph_file(folder, nodes, weights, outputs={"y": ["batch", INPUTS]})


def _nearness(source: Path) -> Callable[[Path], float]:
    inputs = some(30, 9)
    wanted = outputs_of(source, inputs)

    def measure(model: Path) -> float:
        return -float(np.abs(outputs_of(model, inputs) - wanted).max())

    return measure


def _search(source: Path, limit: float, most: int = 8, **options: Any) -> tuple[Kept, Path]:
    out = source.parent / "out" / "reduced.onnx"
    out.parent.mkdir()
    settings: dict[str, Any] = {"calibration": BATCHES, "measure": _nearness(source)}
    kept = reduce_within(source, out, int8, PRECISION, limit=limit, most=most, **(settings | options))
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name, data_file(out.name)]
    return kept, out


def _in_fp32(model: Path) -> set[str]:
    return {name.removesuffix(".weight") for name in tensors(model) if name.endswith(".weight")}


@pytest.mark.parametrize("planted", ["layer0", "layer3", "layer5"])
def test_the_layer_that_suffers_most_is_the_one_that_was_planted(planted: str, tmp_path: Path) -> None:
    errors = dict(layer_errors(_chain(tmp_path, planted), int8, PRECISION, BATCHES))
    assert set(errors) == set(LAYERS)
    assert errors.pop(planted) > 2 * max(errors.values())


def test_the_planted_layer_alone_is_kept_where_that_is_enough(tmp_path: Path) -> None:
    source = _chain(tmp_path, "layer4")
    measure = _nearness(source)
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / MODEL_FILE
    int8.reduce(source, alone, PRECISION, keep=frozenset({"layer4"}), calibration=BATCHES)
    kept, out = _search(source, measure(alone))
    assert kept.layers == ("layer4",)
    assert kept.met
    assert kept.before < kept.limit <= kept.after == measure(out)
    assert _in_fp32(out) == {"layer4"}


def test_nothing_is_kept_and_measured_again_where_all_may_be_reduced(tmp_path: Path) -> None:
    kept, out = _search(_chain(tmp_path), -1)
    assert (kept.layers, kept.evaluations, kept.met) == ((), 1, True)
    assert kept.before == kept.after
    assert _in_fp32(out) == set()


def test_where_no_number_of_layers_is_enough_the_best_is_written_and_it_says_so(tmp_path: Path) -> None:
    source = _chain(tmp_path, "layer4")
    kept, out = _search(source, 0.5, 2)
    assert not kept.met
    assert kept.evaluations == 2
    assert len(kept.layers) == 2
    assert kept.before < kept.after == _nearness(source)(out) < kept.limit
    assert _in_fp32(out) == set(kept.layers)


def test_none_may_be_kept(tmp_path: Path) -> None:
    kept, out = _search(_chain(tmp_path, "layer4"), 0.5, 0)
    assert (kept.layers, kept.evaluations, kept.met) == ((), 1, False)
    assert _in_fp32(out) == set()


@pytest.mark.parametrize("needed", [1, 2, 3, 4, 5, 6])
def test_as_few_are_kept_as_do_in_few_steps(needed: int, tmp_path: Path) -> None:
    kept, out = _search(_chain(tmp_path), needed, 6, measure=lambda model: float(len(_in_fp32(model))))
    assert len(kept.layers) == needed == len(_in_fp32(out))
    assert kept.evaluations <= 2 + 3


def test_a_figure_that_is_no_number_is_not_good_enough(tmp_path: Path) -> None:
    kept, out = _search(_chain(tmp_path), 0, 2, measure=lambda model: float("nan") if not _in_fp32(model) else float(1))
    assert len(kept.layers) == 1 == len(_in_fp32(out))
    assert np.isnan(kept.before)
    assert kept.met


def test_a_measure_that_falls_with_layers_in_fp32_leaves_all_reduced(tmp_path: Path) -> None:
    kept, out = _search(_chain(tmp_path), 0, 4, measure=lambda model: -1.0 - len(_in_fp32(model)))
    assert (kept.layers, kept.after, kept.met) == ((), -1, False)
    assert _in_fp32(out) == set()


def test_what_was_found_is_said_as_plain_data(tmp_path: Path) -> None:
    kept, _ = _search(_chain(tmp_path), 1, 2, measure=lambda model: float(len(_in_fp32(model))))
    assert kept.facts() == {
        "fp32_layers": list(kept.layers), "before": 0.0, "after": 1.0, "limit": 1, "evaluations": 3,
    }  # fmt: skip


def test_what_the_measure_raises_is_raised_and_nothing_is_left(tmp_path: Path) -> None:
    def fails(model: Path) -> float:
        raise OptimizeError("cannot be measured")

    with pytest.raises(OptimizeError, match="cannot be measured"):
        _search(_chain(tmp_path), 0, measure=fails)
    assert list((tmp_path / "out").iterdir()) == []


def test_batches_that_do_not_fit_the_graph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match="does not run on the calibration data"):
        layer_errors(_chain(tmp_path), int8, PRECISION, [{}])
