"""A graph beside its original, where not every side works."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import CONFIG, export_tiny, tiny_model

from modelbuild.measure.beside import measure_graph
from modelbuild.measure.graphs import measured_graphs
from modelbuild.measure.sides import CompiledSide, OnnxruntimeSide, PytorchSide
from modelbuild.runtime.session import SessionSettings
from modelbuild.spec import Benchmark, Providers, Session
from modelbuild.stage_spec import BenchmarkSpec


@pytest.mark.slow
def test_without_a_compiler_eager_mode_is_compared_and_a_note_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = tiny_model("BertModel", CONFIG)
    export_tiny(model, tmp_path / "export")
    plan = Benchmark(kind="quick", batch_sizes=(1,), sequence_lengths=(4, 8), rounds=5, runs=1, warmup=1, compile=True)
    spec = BenchmarkSpec(
        model=model,
        task="feature-extraction",
        providers=Providers(order=("cpu",)),
        session=Session(intra_op_num_threads=1),
        benchmark=plan,
        host={},
    )
    (graph,) = measured_graphs(tmp_path / "export")
    eager = PytorchSide(model=model, task="feature-extraction", component="model", folder=None, threads=1)
    shipped = OnnxruntimeSide(
        model=graph.file,
        outputs=graph.interface.output_names(),
        providers=(("cpu", {}),),
        settings=SessionSettings(intra_op_num_threads=1),
    )
    compiled = CompiledSide(eager=eager, scratch=tmp_path / "scratch")
    said: list[str] = []
    figures = measure_graph(
        spec, graph, {"pytorch": eager, "compiled": compiled, "onnxruntime": shipped}, 100.0, said.append
    )
    (note,) = figures.notes
    assert note.startswith("torch.compile does not work here, and eager mode alone is compared: ")
    assert "no-such-compiler" in note
    assert "\n" not in note
    assert [line.partition(":")[0] for line in said] == ["b1_s4", "b1_s8"]
    for case in figures.cases.values():
        assert {"compiled", "compile_s", "speedup_over_compiled"}.isdisjoint(case)
    assert set(figures.peak_memory_mib) == {"pytorch", "onnxruntime"}
    assert figures.gemm_gflops == 100.0
