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
from modelbuild.measure.processes import Samples
from modelbuild.model_spec import InitSource
from modelbuild.report import read_report, write_report
from modelbuild.spec import Benchmark, Providers, Session
from modelbuild.stage_spec import BenchmarkSpec, StageModel
from modelbuild.stages import benchmark

HEADER = "bar,case,side,p50_ms,p90_ms,p99_ms\n"
BERT: dict[str, JsonValue] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 16,
}
QUICK = Benchmark(kind="quick", batch_sizes=(1, 4), rounds=5, runs=2, warmup=1)


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


def test_benchmark_off_reports_so_and_writes_an_empty_table(out: Path) -> None:
    report = benchmark.run(spec(Benchmark(kind="off")), {"optimize": out / "none"}, out)
    assert (report.stage, report.facts, report.passed) == ("benchmark", {"status": "off"}, True)
    assert (out / benchmark.LATENCY_FILE).read_text() == HEADER


def test_a_missing_model_is_a_package_error(tmp_path: Path, out: Path) -> None:
    with pytest.raises(PackageError):
        benchmark.run(spec(QUICK), {"optimize": tmp_path}, out)


@pytest.mark.parametrize(("waiting_share", "verdict"), [(None, "faster"), (0.05, "faster"), (0.5, "disturbed")])
def test_sides_that_had_to_wait_for_a_core_are_not_ranked(waiting_share: float | None, verdict: str) -> None:
    assert benchmark.speedup(spec(QUICK), samples(waiting_share)).verdict == verdict


def test_threads_that_outnumber_the_cores_wait_without_being_disturbed() -> None:
    parallel = Session(execution_mode="parallel")
    assert benchmark.speedup(spec(QUICK, session=parallel), samples(0.5)).verdict == "faster"


@pytest.mark.slow
def test_both_sides_are_measured_on_the_same_cases(
    tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_bert(tmp_path)
    before = psutil.Process().children(recursive=True)
    report = benchmark.run(spec(QUICK), {"optimize": tmp_path}, out)
    assert psutil.Process().children(recursive=True) == before
    write_report(report, tmp_path / benchmark.REPORT)
    facts = dict(read_report(tmp_path / benchmark.REPORT).facts)
    assert facts == report.facts
    assert (facts["status"], facts["host"], facts["threads"]) == ("measured", {"machine": "test"}, 1)
    assert facts["sequence_length"] == BERT["max_position_embeddings"]
    assert (facts["rounds"], facts["runs"]) == (5, 2)
    assert set(facts["versions"]) == {"torch", "onnxruntime"}
    assert facts["devices"] == {"pytorch": "cpu", "onnxruntime": "CPUExecutionProvider"}
    for figures in facts["graphs"]["model"].values():
        assert min(figures["pytorch"], figures["onnxruntime"]) > 0
    assert facts["gemm_gflops"] > 0
    assert {name: case["batch"] for name, case in facts["cases"].items()} == {"b1": 1, "b4": 4}
    for case in facts["cases"].values():
        check_case(case)
    assert capfd.readouterr().err.count("benchmark: b") == 2
    assert [path.name for path in out.iterdir()] == [benchmark.LATENCY_FILE]
    check_table(out / benchmark.LATENCY_FILE, facts["cases"])


def check_case(case: dict[str, Any]) -> None:
    for side in ("pytorch", "onnxruntime"):
        figures = case[side]
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
        assert figures["throughput_per_s"] == pytest.approx(case["batch"] * 1000 / figures["p50_ms"], rel=1e-2)
        assert case["share_of_gemm_peak"][side] > 0
    assert 0 < case["speedup"]["low"] <= case["speedup"]["median"] <= case["speedup"]["high"]
    assert case["speedup"]["verdict"] in ("faster", "slower", "no difference", "disturbed")


def check_table(path: Path, cases: dict[str, Any]) -> None:
    assert path.read_text().startswith(HEADER)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["case"], row["side"]) for row in rows] == [
        (case, side) for case in cases for side in ("pytorch", "onnxruntime")
    ]
    assert all(float(row["p50_ms"]) == cases[row["case"]][row["side"]]["p50_ms"] for row in rows)


@pytest.mark.slow
def test_a_reference_that_cannot_be_loaded_is_an_export_error_and_leaves_no_process(tmp_path: Path, out: Path) -> None:
    export_bert(tmp_path)
    before = psutil.Process().children(recursive=True)
    with pytest.raises(ExportError, match="no model class 'BrtModel'"):
        benchmark.run(spec(QUICK, architecture="BrtModel"), {"optimize": tmp_path}, out)
    assert psutil.Process().children(recursive=True) == before
