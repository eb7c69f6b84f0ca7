"""optimization=auto: what is wrong or slow loses, what cannot be told apart goes to the simpler, and all is said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from modelbuild import candidates
from modelbuild.candidates import ort_level, unchanged
from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, data_file, read_graph
from modelbuild.measure.statistics import Floats
from modelbuild.optimization.choice import choose
from modelbuild.optimization.search import CANDIDATES
from modelbuild.optimization.trials import Trial
from modelbuild.precision_spec import Fp32Precision
from modelbuild.spec import Optimization, Providers, Session
from modelbuild.stage_spec import OptimizeSpec, Timing
from modelbuild.stages import optimize


def latencies(seed: int = 0, **medians: float) -> dict[str, Floats]:
    """Latencies in ms with a noise of 1 %: 12 rounds of 3 runs around each median."""
    rng = np.random.default_rng(seed)
    return {kind: median * rng.normal(1, 0.01, (12, 3)) for kind, median in medians.items()}


def trials(*kinds: str) -> dict[str, Trial]:
    return {kind: Trial(kind=kind) for kind in kinds}


def test_the_fastest_ships_and_the_others_say_why_not() -> None:
    found = trials("none", "extended", "transformer")
    assert choose(found, {"1x16": latencies(none=3, extended=2, transformer=1)}) == "transformer"
    assert [trial.why for trial in found.values()] == ["slower than transformer", "slower than transformer", ""]
    assert found["transformer"].facts["speedup"]["1x16"]["median"] == pytest.approx(3, rel=0.02)


def test_of_two_that_cannot_be_told_apart_the_simpler_ships() -> None:
    found = trials("none", "extended", "transformer")
    assert choose(found, {"1x16": latencies(none=2, extended=1, transformer=1)}) == "extended"
    assert found["transformer"].why == "no faster than extended"


def test_one_that_is_likely_to_be_faster_ships_though_noise_hides_it() -> None:
    noisy = np.array([0.80, 0.85, 0.90, 0.95, 1.02, 1.05, 1.10]).reshape(-1, 1)
    found = trials("none", "transformer")
    assert choose(found, {"1x16": {"none": np.ones((7, 1)), "transformer": noisy}}) == "transformer"
    assert found["transformer"].facts["speedup"]["1x16"]["verdict"] == "no difference"
    as_fast = {"none": np.ones((7, 1)), "transformer": np.maximum(noisy, 0.99)}
    assert choose(trials("none", "transformer"), {"1x16": as_fast}) == "none"


def test_one_that_is_slower_than_the_plain_graph_in_one_shape_is_out_however_fast_it_is_in_others() -> None:
    found = trials("none", "extended", "transformer")
    shapes = {
        "1x16": latencies(none=2, extended=1.8, transformer=0.5),
        "4x128": latencies(none=2, extended=1.8, transformer=2.2),
    }
    assert choose(found, shapes) == "extended"
    assert found["transformer"].why.startswith("slower than none at 4x128: 0.91x (0.9")


def test_shapes_may_be_timed_with_different_numbers_of_rounds_and_calls() -> None:
    slow = {kind: times[:5, :1] for kind, times in latencies(none=30, extended=20).items()}
    shapes = {"b1_s16": latencies(none=3, extended=2), "b4_s128": slow}
    assert choose(trials("none", "extended"), shapes) == "extended"


def test_the_plain_graph_ships_where_nothing_is_faster() -> None:
    found = trials("none", "extended")
    assert choose(found, {"1x16": latencies(none=1, extended=1.3)}) == "none"


def spec(**optimization: object) -> OptimizeSpec:
    values = {"kind": "auto", "budget_s": 20.0, "shapes": ((1, 4), (2, 8))} | optimization
    return OptimizeSpec(
        optimization=Optimization.model_validate(values),
        precision=Fp32Precision(kind="fp32"),
        timing=Timing(providers=Providers(order=("cpu",)), session=Session(), host={}),
    )


def register(monkeypatch: pytest.MonkeyPatch, kind: str, optimizer: object) -> None:
    module = ModuleType(f"candidate_{kind}_for_a_test")
    module.optimize = optimizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(candidates.CANDIDATES, kind, module.__name__)


def crash(*_: object) -> None:
    raise OptimizeError("the optimizer crashed")


def harm(kind: str, source: Path, facts: object, out: Path, without: frozenset[str], custom_ops: Sequence[str]) -> None:
    """What is never to ship: a weight of another value."""
    unchanged.optimize("none", source, {}, out)
    model = onnx.load(out)
    weight = next(item for item in model.graph.initializer if list(item.dims) == [32, 48])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, out)


def as_extended(
    kind: str, source: Path, facts: object, out: Path, without: frozenset[str], custom_ops: Sequence[str]
) -> None:
    ort_level.save_optimized(source, "extended", out)


@pytest.mark.slow
def test_every_candidate_is_a_line_in_the_report_and_a_wrong_one_is_not_the_end(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "transformer", crash)
    register(monkeypatch, "ort_transformer", harm)
    register(monkeypatch, "multi_head_attention", as_extended)
    report = optimize.run(spec(), {"export": exported}, tmp_path)
    model = report.facts["components"]["model"]
    tried = model["search"]["candidates"]
    assert tuple(tried) == CANDIDATES
    assert tried["transformer"]["why"] == "wrong: the optimizer crashed"
    assert tried["ort_transformer"]["why"].startswith("wrong: the optimized graph does not match the exported one")
    assert tried["multi_head_attention"]["why"] == "the same graph as extended"
    chosen = model["search"]["chosen"]
    assert chosen in ("none", "extended")
    assert (model["optimization"], tried[chosen]["why"]) == (chosen, "")
    assert set(tried["extended"]["latency_ms"]) == {"b1_s4", "b2_s8"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [MODEL_FILE, data_file(MODEL_FILE)]
    assert read_graph(tmp_path / MODEL_FILE).nodes == tried[chosen]["nodes"]


@pytest.mark.slow
def test_what_the_budget_has_no_time_for_is_said(exported: Path, tmp_path: Path) -> None:
    report = optimize.run(spec(budget_s=1e-6), {"export": exported}, tmp_path)
    search = report.facts["components"]["model"]["search"]
    assert search["chosen"] == "none"
    assert {trial["why"] for kind, trial in search["candidates"].items() if kind != "none"} == {
        "not tried: the 40% of optimization.budget_s that are left are for timing"
    }


@pytest.mark.slow
def test_a_graph_that_no_candidate_makes_right_is_one_error_with_all_reasons(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in CANDIDATES:
        register(monkeypatch, kind, crash)
    said = "no candidate can be used: none: wrong: the optimizer crashed; ext"
    with pytest.raises(OptimizeError, match=said) as caught:
        optimize.run(spec(), {"export": exported}, tmp_path)
    assert len(caught.value.lines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "transformer", "budget_s": 5.0}, "budget_s with optimization=transformer, which searches nothing"),
        ({"kind": "none", "shapes": ((1, 2),)}, "shapes with optimization=none"),
        ({"kind": "auto", "budget_s": 0.0}, "greater than 0"),
        ({"kind": "auto", "shapes": ()}, "at least 1 item"),
        ({"kind": "auto", "shapes": ((0, 16),)}, "greater than or equal to 1"),
        ({"kind": "auto", "shapes": ((16,),)}, "Field required"),
        ({"kind": "auto", "require_fusion": True}, "require_fusion=true with optimization=auto, which promises none"),
    ],
    ids=str,
)
def test_a_search_that_makes_no_sense_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Optimization.model_validate(values)
