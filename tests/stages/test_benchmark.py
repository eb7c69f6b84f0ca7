from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import JsonValue
from tiny_models import export_tiny

from modelbuild.errors import ExportError, PackageError
from modelbuild.measure import beside, tables
from modelbuild.measure.processes import Samples
from modelbuild.model_spec import InitSource
from modelbuild.report import read_report, write_report
from modelbuild.spec import Benchmark, Providers, Session
from modelbuild.stage_spec import BenchmarkSpec, StageModel
from modelbuild.stages import REPORTS, benchmark

HEADER = "side,p50_ms,p90_ms,p99_ms\n"
BERT: dict[str, JsonValue] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 16,
}
SIDES = ("pytorch", "compiled", "onnxruntime")
QUICK = Benchmark(kind="quick", batch_sizes=(1, 4), rounds=5, runs=2, warmup=1, loads=3)
COMPILED = QUICK.model_copy(update={"batch_sizes": (4,), "sequence_lengths": (64,), "compile": True})


@pytest.fixture(autouse=True)
def _own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def spec(plan: Benchmark, *, architecture: str = "BertModel", session: Session | None = None) -> BenchmarkSpec:
    return BenchmarkSpec(
        model=StageModel(source=InitSource(kind="init", architecture=architecture, config=BERT)),
        task="feature-extraction",
        providers=Providers(order=("cpu",)),
        session=session or Session(intra_op_num_threads=1),
        benchmark=plan,
        host={"machine": "test"},
    )


def samples(waiting_share: float | None) -> Samples:
    latencies = np.ones((5, 2))
    return Samples(latencies_ms={"pytorch": latencies, "onnxruntime": latencies / 2}, waiting_share=waiting_share)


def export_bert(folder: Path) -> None:
    export_tiny(spec(QUICK).model, folder)


def test_a_missing_model_is_a_package_error(tmp_path: Path, out: Path) -> None:
    with pytest.raises(PackageError):
        benchmark.run(spec(QUICK), {"export": tmp_path, "optimize": tmp_path}, out)


@pytest.mark.parametrize(("waiting_share", "verdict"), [(None, "faster"), (0.05, "faster"), (0.5, "disturbed")])
def test_sides_that_had_to_wait_for_a_core_are_not_ranked(waiting_share: float | None, verdict: str) -> None:
    assert beside.speedup(spec(QUICK), samples(waiting_share)).verdict == verdict


def test_threads_that_outnumber_the_cores_wait_without_being_disturbed() -> None:
    parallel = Session(execution_mode="parallel")
    assert beside.speedup(spec(QUICK, session=parallel), samples(0.5)).verdict == "faster"


@pytest.mark.slow
def test_every_side_is_measured_on_the_same_cases(tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_bert(tmp_path)
    before = psutil.Process().children(recursive=True)
    report = benchmark.run(spec(COMPILED), {"export": tmp_path, "optimize": tmp_path}, out)
    assert psutil.Process().children(recursive=True) == before
    write_report(report, tmp_path / REPORTS["benchmark"])
    facts = dict(read_report(tmp_path / REPORTS["benchmark"]).facts)
    assert facts == report.facts
    assert (facts["status"], facts["host"], facts["threads"]) == ("measured", {"machine": "test"}, 1)
    assert (facts["rounds"], facts["runs"], facts["loads"]) == (5, 2, 3)
    assert set(facts["versions"]) == {"torch", "onnxruntime"}
    assert facts["devices"] == {"pytorch": "cpu", "compiled": "cpu", "onnxruntime": "CPUExecutionProvider"}
    assert facts["notes"] == ["model takes 16 positions at most: 16, not 64, measured"]
    assert facts["gemm_gflops"] > 0
    shapes = {name: (case["batch"], case["length"]) for name, case in facts["cases"].items()}
    assert shapes == {"b4_s16": (4, 16)}
    for case in facts["cases"].values():
        check_case(case)
    check_graph(facts["graphs"]["model"])
    assert facts["sessions"]["preset"] in facts["sessions"]["presets"]
    for preset in facts["sessions"]["presets"].values():
        assert set(preset["p50_ms"]) == set(shapes)
    said = capfd.readouterr().err
    for progress in ("loading model", "b4_s16: ", "model loads in ", "measuring the session presets", "session="):
        assert said.count(f"benchmark: {progress}") == 1
    check_tables(out / tables.FOLDER, facts["cases"])


def check_case(case: dict[str, Any]) -> None:
    for side in SIDES:
        figures = case[side]
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
        assert figures["throughput_per_s"] == pytest.approx(case["batch"] * 1000 / figures["p50_ms"], rel=1e-2)
        assert case["share_of_gemm_peak"][side] > 0
    for speedup in (case["speedup"], case["speedup_over_compiled"]):
        assert 0 < speedup["low"] <= speedup["median"] <= speedup["high"]
        assert speedup["verdict"] in ("faster", "slower", "no difference", "disturbed")
    # Making C++ of it and compiling that takes longer than running it.
    assert case["compile_s"] * 1000 > case["compiled"]["p50_ms"]


def check_graph(graph: dict[str, Any]) -> None:
    assert set(graph["load_ms"]) == {*SIDES, "exported"}
    assert set(graph["peak_memory_mib"]) == set(SIDES)
    assert min(*graph["load_ms"].values(), *graph["peak_memory_mib"].values()) > 0
    assert graph["peak_memory_mib"]["onnxruntime"] < graph["peak_memory_mib"]["pytorch"]
    assert 0 < graph["load_speedup"]["low"] <= graph["load_speedup"]["high"]


def check_tables(folder: Path, cases: dict[str, Any]) -> None:
    assert {path.stem for path in folder.iterdir()} == set(cases)
    for name, case in cases.items():
        text = (folder / f"{name}.csv").read_text()
        assert text.startswith(HEADER)
        rows = list(csv.DictReader(text.splitlines()))
        assert [row["side"] for row in rows] == list(SIDES)
        assert all(float(row["p50_ms"]) == case[row["side"]]["p50_ms"] for row in rows)


@pytest.mark.slow
def test_a_reference_that_cannot_be_loaded_is_an_export_error_and_leaves_no_process(tmp_path: Path, out: Path) -> None:
    export_bert(tmp_path)
    before = psutil.Process().children(recursive=True)
    with pytest.raises(ExportError, match="no model class 'BrtModel'"):
        benchmark.run(spec(QUICK, architecture="BrtModel"), {"export": tmp_path, "optimize": tmp_path}, out)
    assert psutil.Process().children(recursive=True) == before
