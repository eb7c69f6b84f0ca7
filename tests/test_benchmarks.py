"""What the scripts of `benchmarks/` do without measuring: they read, resume, compute and draw."""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import artifact_speed
import build_cost
import memory_of_export
import numpy as np
import onnx
import pytest
import results as written
import sweep_cost
from accuracy import agreement, pooled
from benchmark_results import build_parts, cost, memory_parts, results, speed_case, sweep_part
from charts import Bar, Group, bar_chart
from draw import HERE, QUOTING, figures_of, files, fill, page, quotable, read_results
from makers import optimum_command, our_overrides, peer_environment, write_olive_config
from measuring import cost_of, memory_of, parse_status, spread, together, tree
from random_models import CHECKPOINTS, Checkpoint, into_shards, values, write_checkpoint
from tables import measured_on

from artifacts import batch, chosen, graph_side, linear_layers, without_those_that_fail
from modelbuild.measure.processes import Samples

ROOT = HERE.parent
_GREEDY = "data = b'x' * (80 << 20); open('out', 'wb').write(data[: 8 << 20]); print('done')"


def run_in(folder: Path, code: str) -> Any:
    return cost_of([sys.executable, "-c", code], folder=folder, log=folder / "log")


def test_a_command_costs_the_memory_that_it_holds_and_what_it_writes(tmp_path: Path) -> None:
    found = run_in(tmp_path, _GREEDY + "; import time; time.sleep(0.2)")
    assert 80 < found.anonymous_mib < found.peak_mib < 400
    assert found.wall_s > 0.2
    assert (tmp_path / "log").read_text(encoding="utf-8") == "done\n"


def test_children_of_a_command_count(tmp_path: Path) -> None:
    child = _GREEDY + "; import time; time.sleep(0.2)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert run_in(tmp_path, code).anonymous_mib > 80


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ended with status 3: no such model \(see .*log\)"):
        run_in(tmp_path, "print('no such model'); raise SystemExit(3)")


def test_a_process_that_has_ended_has_no_memory() -> None:
    assert memory_of(2**22 + 1) is None
    assert parse_status("Name:\tpython\nState:\tZ (zombie)\n") is None
    assert os.getpid() in set(tree(os.getpid()))


def test_commands_in_a_row_cost_their_sum_and_the_larger_memory() -> None:
    both = together([cost(4.0), cost(3.0)])
    assert (both.wall_s, both.cpu_s, both.written_mib) == (7.0, 14.0, 70.0)
    assert (both.peak_mib, both.anonymous_mib) == (400.0, 200.0)


def test_a_spread_is_the_median_between_the_lowest_and_the_highest() -> None:
    assert spread([3.0, 1.0, 2.0012]) == {"median": 2.0, "lowest": 1.0, "highest": 3.0}
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def plan_in(folder: Path, rounds: int = 2) -> written.Plan:
    return written.Plan(name="example", rounds=rounds, work=folder, out=None, chosen=argparse.Namespace())


def test_an_interrupted_benchmark_goes_on_where_it_was(tmp_path: Path) -> None:
    ran: list[str] = []

    def one(name: str) -> dict[str, Any]:
        if name == "second" and len(ran) < 2:
            ran.append("interrupted")
            raise KeyboardInterrupt
        ran.append(name)
        return {"figure": len(ran)}

    names = ["first", "second", "third"]
    with pytest.raises(KeyboardInterrupt):
        written.run_parts(plan_in(tmp_path), {}, names, one)
    parts = written.run_parts(plan_in(tmp_path), {}, names, one)
    assert ran == ["first", "interrupted", "second", "third"]
    assert [part["part"] for part in parts] == names


def test_parts_with_other_settings_are_not_taken_over(tmp_path: Path) -> None:
    written.run_parts(plan_in(tmp_path), {"model": "a"}, ["first"], lambda name: {"figure": 1})
    (part,) = written.run_parts(plan_in(tmp_path), {"model": "b"}, ["first"], lambda name: {"figure": 2})
    assert part["figure"] == 2


def test_a_part_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "parts"
    file.write_text('{"key": "k"}\n{"part": "first"}\n{"part": "sec', encoding="utf-8")
    assert written.read_parts(file, "k") == [{"part": "first"}]
    assert written.read_parts(file, "other") == []
    assert written.read_parts(tmp_path / "none", "k") == []


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (build_cost, ["--rounds", "0"], "'0' is no whole number of at least 1"),
        (build_cost, ["--rounds", "many"], "'many' is no whole number of at least 1"),
        (build_cost, ["--model", "bert-bass"], "invalid choice: 'bert-bass'"),
        (build_cost, ["--out", "nowhere/x.json"], "--out nowhere/x.json: its folder does not exist"),
        (artifact_speed, ["--only", "int4"], "invalid choice: 'int4'"),
        (memory_of_export, ["--widths", "100"], "100 is no multiple of 64"),
        (sweep_cost, ["--modle", "x"], "unrecognized arguments: --modle"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_line(
    module: Any,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--work", str(tmp_path), *arguments])
    with pytest.raises(SystemExit):
        module.main()
    assert said in capsys.readouterr().err


def test_too_few_rounds_for_an_interval_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--work", str(tmp_path), "--rounds", "4"])
    with pytest.raises(SystemExit, match="--rounds 4: an interval needs at least 5"):
        artifact_speed.main()


def test_the_peers_have_the_versions_that_modelbuild_has() -> None:
    ours = dict(line.split("==") for line in lines(ROOT / "constraints.txt"))
    for name in ("optimum", "olive"):
        theirs = dict(line.split("==") for line in lines(HERE / f"{name}.txt"))
        assert {"torch", "transformers", "onnx", "onnxruntime", "numpy"} <= theirs.keys()
        assert {key: value for key, value in theirs.items() if ours.get(key, value).split("+")[0] != value} == {}


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def test_a_peer_sees_nothing_of_our_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "ours")
    assert "PYTHONPATH" not in peer_environment()
    assert peer_environment()["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("name", "kind", "task"),
    [
        ("bert-base", "HfModel", "feature-extraction"),
        ("vit-base", "HfModel", "feature-extraction"),
        ("t5-small", "PyTorchModel", None),
    ],
)
def test_olive_is_told_what_it_does_not_know(name: str, kind: str, task: str | None, tmp_path: Path) -> None:
    config = json.loads(write_olive_config(CHECKPOINTS[name], Path("models"), tmp_path).read_text(encoding="utf-8"))
    assert config["input_model"]["type"] == kind
    assert config["input_model"].get("task") == task
    assert ("io_config" in config["input_model"]) == (name != "bert-base")
    assert [step["type"] for step in config["passes"].values()] == ["OnnxConversion", "OrtTransformersOptimization"]


def test_optimum_is_asked_for_the_level() -> None:
    command = optimum_command(Path("bin"), CHECKPOINTS["vit-base"], Path("models"), Path("out"), "O2")
    assert command[-3:] == ["--optimize", "O2", "out"]
    assert "--optimize" not in optimum_command(Path("bin"), CHECKPOINTS["vit-base"], Path("models"), Path("out"), None)


def test_shards_keep_the_order_and_the_limit() -> None:
    shapes = {"a": (2,), "b": (3,), "c": (100,), "d": (1,), "e": (1,)}
    assert list(into_shards(shapes, limit=20)) == [["a", "b"], ["c"], ["d", "e"]]
    assert list(into_shards({})) == []


def test_scales_of_normalizations_are_near_one() -> None:
    rng = np.random.default_rng(0)
    assert abs(values("norm.weight", (1000,), rng).mean() - 1) < 0.01
    assert abs(values("norm.bias", (1000,), rng).mean()) < 0.01
    assert values("dense.weight", (30, 30), rng).std() < 0.03


@pytest.mark.slow
def test_a_written_checkpoint_is_one_that_transformers_loads_in_full(tmp_path: Path) -> None:
    import transformers

    config = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 64}
    tiny = Checkpoint(
        name="tiny", title="T5", architecture="T5ForConditionalGeneration", model_type="t5",
        task="text2text-generation", config=config,
    )  # fmt: skip
    size = write_checkpoint(tiny, tmp_path)
    assert size == sum(
        4 * p.numel() for p in transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).parameters()
    )
    _, info = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())


def test_inputs_are_those_of_the_model() -> None:
    rng = np.random.default_rng(0)
    assert batch(CHECKPOINTS["vit-base"], (4,), rng)["pixel_values"].shape == (4, 3, 224, 224)
    padded = batch(CHECKPOINTS["bert-base"], (2, 16), rng, padding=9)
    assert padded["attention_mask"].sum(axis=1).tolist() == [7, 16]
    assert padded.keys() - batch(CHECKPOINTS["distilbert"], (1, 16), rng).keys() == {"token_type_ids"}


def test_linear_layers_are_counted_by_the_type_of_their_weights(tmp_path: Path) -> None:
    helper = onnx.helper
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "x"], ["y"])]
    nodes += [helper.make_node("MatMulInteger", ["q", "i"], ["z"]), helper.make_node("Gather", ["w", "i"], ["g"])]
    tensors = [
        onnx.numpy_helper.from_array(np.ones((2, 2), dtype=kind), name)
        for name, kind in (("w", "float32"), ("i", "int8"))
    ]
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(helper.make_model(graph), str(tmp_path / "model.onnx"))
    assert linear_layers(tmp_path / "model.onnx") == {"fp32": 1, "quantized": 1}


@pytest.mark.slow
def test_a_peer_whose_graph_does_not_load_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    node = onnx.helper.make_node("Identity", ["x"], ["last_hidden_state"])
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "last_hidden_state")]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    onnx.save(model, str(tmp_path / "good.onnx"))
    sides = {name: graph_side(tmp_path / f"{name}.onnx") for name in ("good", "bad")}
    kept, failed = without_those_that_fail(sides, ["good", "bad"])
    assert list(kept) == ["good"]
    assert "bad" in failed["bad"]


def test_what_a_search_chose_is_read_from_the_manifest(tmp_path: Path) -> None:
    told = {"model": {"kind": "auto", "search": {"chosen": "extended"}}, "encoder_model": {"kind": "none"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"optimization": told}), encoding="utf-8")
    assert chosen(tmp_path, "model") == "extended"
    assert chosen(tmp_path, "encoder_model") == "none"


def test_the_worst_sentence_is_the_one_that_is_told() -> None:
    states = [np.random.default_rng(seed).standard_normal((1, 5, 8)) for seed in range(6)]
    theirs = pooled(states)
    assert agreement(theirs, theirs) == {"sentences": 6, "worst_cosine": 1.0, "mean_cosine": 1.0, "rank_agreement": 1.0}
    turned = agreement(pooled([-states[0], *states[1:]]), theirs)
    assert turned["worst_cosine"] == -1.0
    assert turned["rank_agreement"] < 1.0


def test_builds_go_on_without_sidecars_and_benchmarks() -> None:
    overrides = our_overrides(CHECKPOINTS["bert-base"], Path("models"), "optimization=none")
    assert {"sidecar=off", "benchmark=off", "task=feature-extraction", "optimization=none"} <= set(overrides)


def test_every_contestant_is_in_every_round_in_another_order() -> None:
    parts = build_cost.parts_of(5)
    assert len(set(parts)) == 5 * len(build_cost.CONTESTANTS)
    orders = {tuple(part.split(": ")[1] for part in parts if part.startswith(f"round {n}:")) for n in range(1, 6)}
    assert len(orders) > 1
    assert len(memory_of_export.parts_of(2, [64, 128])) == 4


def test_ratios_of_build_costs_are_of_one_round_and_then_the_median() -> None:
    found = build_cost.figures(build_parts()[::-1])
    assert found["costs"]["Olive"]["wall_s"] == {"median": 16.5, "lowest": 16.0, "highest": 17.0}
    name = f"{build_cost.STAGES} / Optimum O2"
    assert found["wall_time_ratios"][name] == {"median": 0.528, "lowest": 0.5, "highest": 0.556}
    assert found["in_command_s"] == {"median": 3.5, "lowest": 3.0, "highest": 4.0}
    name = f"{build_cost.IN_COMMAND} / Optimum O2"
    assert found["wall_time_ratios"][name] == {"median": 0.41, "lowest": 0.375, "highest": 0.444}


def test_a_sweep_may_cost_one_export_and_the_rest_of_each_build() -> None:
    alone = sweep_part()["alone"]
    assert [sweep_cost.allowance(alone, builds) for builds in (1, 4, 16)] == [5.0, 11.0, 35.0]
    found = sweep_cost.figures([sweep_part()])["sweeps"]
    assert [found[number]["ratio"]["median"] for number in ("1", "4", "16")] == [1.0, 0.909, 0.8]


def test_models_come_by_the_size_of_their_weights() -> None:
    found = memory_of_export.figures(memory_parts())["models"]
    assert [model["weights_gb"] for model in found.values()] == [0.2, 3.0]


def test_speeds_are_ratios_of_rounds_and_disturbed_ones_rank_nothing() -> None:
    case = speed_case()
    assert case["speed"]["Olive"]["median"] == pytest.approx(2.0)
    assert case["beside"]["Olive"]["median"] == pytest.approx(1.25)
    assert case["beside"]["Olive"]["verdict"] == "faster"
    times = {"a": np.ones((7, 3)), "b": 2 * np.ones((7, 3))}
    disturbed = artifact_speed.case_of(Samples(latencies_ms=times, waiting_share=0.5), "b", "a")
    assert disturbed["beside"]["b"]["verdict"] == "disturbed"


def test_a_chart_has_every_bar_and_no_markup_of_its_labels() -> None:
    bar = Bar(label="<us & them>", value=2.0, low=1.5, high=2.5, ours=True)
    drawn = bar_chart("Time", "s", [Group(title="A", bars=[bar, bar])], mark=1.0)
    assert drawn.count('class="ours"') == 2
    assert "&lt;us &amp; them&gt;" in drawn
    assert "<us" not in drawn
    with pytest.raises(ValueError, match="Time: there is nothing to draw"):
        bar_chart("Time", "s", [Group(title="A", bars=[])])


def test_the_page_has_a_section_for_every_result() -> None:
    found = results()
    text = page(found)
    for heading in ("What a build costs", "How fast the artifacts are", "Memory of export", "Sweeps"):
        assert f"## {heading}" in text
    assert "| Olive | 16.5 s (16 to 17) | 33 s | 1650 MiB | 825 MiB | 165 MiB |" in text
    assert "Optimum O2's graph does not load: no kernel." in text
    assert "70 linear layers are quantized, 2 are in fp32" in text
    assert "0.9912 at worst" in text
    assert "Loading takes, without imports and disk: PyTorch eager 81 ms, modelbuild 42 ms." in text
    assert "Off from PyTorch with left padding, of the largest value: Olive 0.012, modelbuild 3.4e-07." in text
    assert text.count(measured_on(found["build_cost"]).partition(". [")[0]) == 4
    assert page({}).count("## ") == 0
    images = set(re.findall(r"!\[.*?\]\((.*?)\)", text))
    assert images == figures_of(found).keys()


def test_a_block_of_figures_is_drawn_and_an_unknown_one_refused() -> None:
    text = "Before.\n<!-- figures: summary -->\nold\n<!-- end of figures -->\nAfter.\n"
    drawn = fill(text, results())
    assert "old" not in drawn
    assert "| BERT-base, 1x16 |  |  | 2.00 | 2.50 |  |" in drawn
    assert "| wall time of export and optimize, each stage alone, of Optimum O2's | 0.53 |" in drawn
    assert "| BERT-base in int8, worst cosine with PyTorch | 0.9912 of 200 sentences |" in drawn
    assert drawn.startswith("Before.\n")
    assert drawn.endswith("After.\n")
    assert fill(drawn, results()) == drawn
    with pytest.raises(ValueError, match="there is no block of figures 'sumary': choose summary"):
        fill(text.replace("summary", "sumary"), results())


def test_what_is_drawn_is_what_the_committed_results_say(request: pytest.FixtureRequest) -> None:
    for path, text in files(read_results()).items():
        if request.config.getoption("--write-tables"):
            path.write_text(text, encoding="utf-8")
        stale = f"{path.name} is stale: python benchmarks/draw.py"
        assert path.exists(), stale
        assert path.read_text(encoding="utf-8") == text, stale


def test_a_paragraph_that_names_a_result_quotes_it() -> None:
    assert unquoted(read_results()) == []


def test_a_figure_that_is_not_that_of_the_result_is_found() -> None:
    changed: dict[str, Any] = copy.deepcopy(read_results())
    changed["validation_cost"]["ratios_to_export"]["strict"]["median"] = 3.1
    assert len(unquoted(changed)) == 1


def unquoted(found: Mapping[str, Any]) -> list[str]:
    """The paragraphs outside of drawn blocks that name a result and have none of the sentences made of results."""
    texts = [path.read_text(encoding="utf-8") for path in (*QUOTING, ROOT / "CHANGELOG.md")]
    plain = [re.sub(r"(?s)<!-- figures: .*?<!-- end of figures -->", "", text) for text in texts]
    paragraphs = [" ".join(part.split()) for text in plain for part in re.split(r"\n\s*\n|\n- ", text)]
    named = [part for part in paragraphs if re.search(r"benchmarks/\w+\.json", part)]
    return [part for part in named if not any(sentence in part for sentence in quotable(found))]
