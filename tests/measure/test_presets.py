"""Which session preset is recommended, and what is measured for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from modelbuild.config.location import packaged
from modelbuild.errors import HostError, PackageError
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.measure.graphs import MeasuredGraph, Shape
from modelbuild.measure.presets import (
    Demand,
    PresetLatencies,
    Recommendation,
    best_preset,
    demand,
    demands,
    preset_settings,
    recommend,
)
from modelbuild.runtime.session import SessionSettings
from modelbuild.session_presets import PRESETS, preset
from modelbuild.spec import Benchmark, Providers, Session

PLAN = Benchmark(kind="quick", rounds=5, runs=2, warmup=1)
DEMANDS: dict[str, Demand] = {"edge": (1, 0), "latency": (4, 1), "throughput": (6, 2)}
NOISE = np.array([1.0, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97]).reshape(-1, 1)
INTERFACE = Interface(
    axes=(Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length", largest=8)),
    inputs=(Input(name="input_ids", dtype="int64", shape=("batch", "sequence"), content="token_ids", below=9),),
    outputs=(Output(name="last_hidden_state", shape=("batch", "sequence")),),
)


def write_graph(path: Path) -> None:
    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input_ids"], ["last_hidden_state"], to=TensorProto.FLOAT)],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, axes)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def measure(model: Path, *shapes: Shape) -> Recommendation:
    graph = MeasuredGraph(name="model", several=False, file=model, interface=INTERFACE)
    return best_preset([graph], Session(auto=True), Providers(order=("cpu",)), (), shapes, PLAN)


def measured(**cases: dict[str, float]) -> PresetLatencies:
    """Noisy latencies by preset around those given by case; the noise of `edge` is that of the others backwards."""
    noise = {name: NOISE[::-1] if name == "edge" else NOISE for name in cases}
    latencies = {name: {case: ms * noise[name] for case, ms in of.items()} for name, of in cases.items()}
    return PresetLatencies(by_preset=latencies, disturbed=False)


def chosen(**cases: dict[str, float]) -> str:
    return recommend(measured(**cases), DEMANDS, seed=0).preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_the_configuration_of_that_name_says(name: str) -> None:
    said = yaml.safe_load(packaged(f"conf/session/{name}.yaml").read_text(encoding="utf-8"))
    assert PRESETS[name] | {"custom_ops": []} == said
    assert preset(Session(auto=True), name) == Session.model_validate(said, strict=False)


def test_every_session_of_the_configuration_but_auto_is_measured() -> None:
    assert {path.stem for path in Path(str(packaged("conf/session"))).iterdir()} - {"auto"} == set(PRESETS)


def test_the_fastest_preset_is_recommended_with_the_others_beside_it() -> None:
    best = recommend(measured(edge={"a": 20}, latency={"a": 10}, throughput={"a": 15}), DEMANDS, seed=0)
    assert best.preset == "latency"
    assert best.reason == "the fastest: 2.00 times as long with edge, 1.50 times as long with throughput"
    assert best.presets["edge"].ratio.median == pytest.approx(2, rel=0.1)
    assert best.presets["edge"].p50_ms == {"a": pytest.approx(20)}


def test_all_cases_count_by_their_geometric_mean() -> None:
    assert chosen(latency={"short": 1, "long": 100}, throughput={"short": 2, "long": 60}) == "latency"
    assert chosen(latency={"short": 1, "long": 100}, throughput={"short": 1.5, "long": 60}) == "throughput"


def test_of_presets_that_do_not_differ_the_one_that_takes_least_is_recommended() -> None:
    best = recommend(measured(edge={"a": 10.01}, latency={"a": 10}), DEMANDS, seed=0)
    assert best.preset == "edge"
    assert best.reason.startswith("no slower than latency (1.00 times as long, 0.9")
    assert chosen(latency={"a": 10}, throughput={"a": 9.99}) == "throughput"  # the same noise: always faster
    assert chosen(latency={"a": 10}, throughput={"a": 10}) == "latency"


def test_a_preset_that_is_slower_in_every_round_is_not_as_fast() -> None:
    assert chosen(edge={"a": 11}, latency={"a": 10}) == "latency"


def test_graphs_are_joined_by_their_cases() -> None:
    joined = measured(edge={"a": 1}, latency={"a": 2}).joined(measured(edge={"b": 9}, latency={"b": 1}))
    best = recommend(joined, DEMANDS, seed=0)
    assert best.preset == "latency"
    assert best.presets["latency"].mean_ms == pytest.approx(2**0.5)


def test_disturbance_of_one_graph_is_one_of_all() -> None:
    calm = measured(edge={"a": 1})
    disturbed = PresetLatencies(by_preset={"edge": {"b": NOISE}}, disturbed=True)
    assert recommend(calm.joined(disturbed), DEMANDS, seed=0).disturbed
    assert not recommend(calm, DEMANDS, seed=0).disturbed


def test_one_preset_alone_is_the_only_one() -> None:
    assert recommend(measured(edge={"a": 1}), DEMANDS, seed=0).reason == "the only one that runs here"


@pytest.mark.parametrize("nothing", [{}, {"edge": {}}], ids=str)
def test_nothing_measured_is_an_error(nothing: dict[str, dict[str, np.ndarray]]) -> None:
    with pytest.raises(HostError, match="no session preset was measured"):
        recommend(PresetLatencies(by_preset=nothing, disturbed=False), DEMANDS, seed=0)


def test_a_session_demands_its_threads_and_that_they_spin() -> None:
    two = SessionSettings(intra_op_num_threads=2)
    stops = SessionSettings(intra_op_num_threads=2, config_entries={"session.force_spinning_stop": "1"})
    still = SessionSettings(intra_op_num_threads=2, allow_spinning=False)
    assert [demand(found) for found in (still, stops, two)] == [(2, 0), (2, 1), (2, 2)]
    parallel = SessionSettings(intra_op_num_threads=2, inter_op_num_threads=3, execution_mode="parallel")
    assert demand(parallel) == (5, 2)


def test_operators_run_in_turn_beside_another_provider_than_the_cpu() -> None:
    assert list(preset_settings(Session(), [("cpu", {})], ())) == list(PRESETS)
    assert "throughput" not in preset_settings(Session(), [("cuda", {}), ("cpu", {})], ())


def test_entries_of_the_user_are_laid_over_those_of_the_preset() -> None:
    own = {"session.set_denormal_as_zero": "1", "session.force_spinning_stop": "0"}
    found = preset_settings(Session(auto=True, config_entries=own), [("cpu", {})], ("/lib/mine.so",))
    for name, settings in found.items():
        assert settings.config_entries == PRESETS[name]["config_entries"] | own
        assert settings.custom_ops == ("/lib/mine.so",)


def test_entries_of_a_preset_are_not_laid_over_another() -> None:
    chosen = preset(Session(config_entries={"session.set_denormal_as_zero": "1"}), "latency")
    assert preset(chosen, "edge").config_entries == {"session.set_denormal_as_zero": "1"}
    assert preset(chosen, "latency").config_entries == chosen.config_entries


def test_edge_demands_least_of_any_machine() -> None:
    found = demands(preset_settings(Session(), [("cpu", {})], ()))
    assert min(found, key=found.__getitem__) == "edge"


def test_a_file_that_does_not_load_is_a_package_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot open the model"):
        measure(tmp_path / "none.onnx", (1, 2))


@pytest.mark.slow
def test_every_preset_is_measured_on_every_shape(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx")
    best = measure(tmp_path / "model.onnx", (1, 2), (2, 64))
    facts = best.facts()
    assert facts["preset"] in PRESETS
    assert set(facts["presets"]) == set(PRESETS)
    assert all(set(found["p50_ms"]) == {"b1_s2", "b2_s8"} for found in facts["presets"].values())
    assert all(found["mean_ms"] > 0 for found in facts["presets"].values())
