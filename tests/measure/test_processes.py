from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper
from pydantic import JsonValue

from modelbuild.errors import ExportError, HostError, PackageError
from modelbuild.measure import processes
from modelbuild.measure.probes import Block, count_gflop, gemm_gflops, peak_memory_mib, run_block
from modelbuild.measure.processes import (
    MeasuredProcess,
    Samples,
    interleave,
    joined,
    open_processes,
    quietest,
    started_anew,
)
from modelbuild.measure.sides import OnnxruntimeSide, PytorchSide, Side
from modelbuild.model_spec import InitSource
from modelbuild.runtime.session import SessionSettings
from modelbuild.spec import Benchmark
from modelbuild.stage_spec import StageModel

INPUTS = {"input_ids": np.ones((2, 3), dtype=np.int64)}
PLAN = Benchmark(kind="quick", rounds=5, runs=2, warmup=1)
BERT: dict[str, JsonValue] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 32,
}


def write_graph(path: Path) -> None:
    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input_ids"], ["last_hidden_state"], to=TensorProto.FLOAT)],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, axes)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture
def side(tmp_path: Path) -> OnnxruntimeSide:
    write_graph(tmp_path / "model.onnx")
    return OnnxruntimeSide(
        model=tmp_path / "model.onnx",
        outputs=("last_hidden_state",),
        providers=(("cpu", {}),),
        settings=SessionSettings(intra_op_num_threads=2),
    )


@pytest.fixture
def no_process_left() -> Iterator[None]:
    before = psutil.Process().children(recursive=True)
    yield
    assert psutil.Process().children(recursive=True) == before


def bert(architecture: str) -> PytorchSide:
    source = InitSource(kind="init", architecture=architecture, config=BERT)
    return PytorchSide(
        model=StageModel(source=source), task="feature-extraction", component="model", folder=None, threads=2
    )


@pytest.mark.usefixtures("no_process_left")
def test_a_side_that_does_not_load_raises_its_error_here(side: OnnxruntimeSide) -> None:
    side.model.unlink()
    with pytest.raises(PackageError, match="cannot open the model"), MeasuredProcess("onnxruntime", side):
        pass


@pytest.mark.usefixtures("no_process_left")
def test_a_call_that_fails_raises_the_error_of_the_side_with_its_traceback(side: OnnxruntimeSide) -> None:
    unknown = {"no_such_input": INPUTS["input_ids"]}
    with MeasuredProcess("onnxruntime", side) as process, pytest.raises(PackageError, match="no_such_input") as caught:
        process.ask(run_block, unknown, 1)
    assert "onnxruntime failed" in str(caught.value)
    assert "run_block" in caught.value.__notes__[0]


@pytest.mark.usefixtures("no_process_left")
def test_a_process_that_is_killed_is_a_host_error(side: OnnxruntimeSide) -> None:
    with MeasuredProcess("onnxruntime", side) as process:
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(HostError, match="onnxruntime was ended by SIGKILL"):
            process.ask(peak_memory_mib)


@pytest.mark.usefixtures("no_process_left")
def test_a_suspended_process_is_ended_when_something_here_raises(side: OnnxruntimeSide) -> None:
    with pytest.raises(LookupError), MeasuredProcess("onnxruntime", side):
        raise LookupError


def test_a_process_is_suspended_except_while_it_answers(side: OnnxruntimeSide) -> None:
    with MeasuredProcess("onnxruntime", side) as process:
        for _ in range(2):
            stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert stopped is not None
            assert stopped.si_status == signal.SIGSTOP
            assert len(process.ask(run_block, INPUTS, 3).latencies_ms) == 3


def test_the_process_of_onnxruntime_carries_no_torch(side: OnnxruntimeSide) -> None:
    with MeasuredProcess("onnxruntime", side) as process:
        loaded = {Path(item.path).name for item in psutil.Process(process.pid).memory_maps()}
        assert process.ask(peak_memory_mib) > 1
    assert any("onnxruntime" in name for name in loaded)
    assert not any("torch" in name for name in loaded)


def test_the_facts_of_a_side_say_how_it_was_loaded(side: OnnxruntimeSide) -> None:
    with MeasuredProcess("onnxruntime", side) as process:
        assert process.facts.load_ms > 0
        assert process.facts.device == "CPUExecutionProvider"
        assert process.facts.version.count(".") == 2


def test_interleave_gives_rounds_of_runs_for_each_side(side: OnnxruntimeSide) -> None:
    with open_processes({"pytorch": side, "onnxruntime": side}) as processes:
        samples = interleave(processes, INPUTS, PLAN, np.random.default_rng(0))
    assert list(samples.latencies_ms) == ["pytorch", "onnxruntime"]
    for latencies in samples.latencies_ms.values():
        assert latencies.shape == (5, 2)
        assert (latencies > 0).all()


def test_every_round_has_processes_of_its_own_opened_in_another_order(
    side: OnnxruntimeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[list[str]] = []

    def noted(sides: Mapping[str, Side]) -> AbstractContextManager[dict[str, MeasuredProcess]]:
        opened.append(list(sides))
        return open_processes(sides)

    monkeypatch.setattr(processes, "open_processes", noted)
    cases = {"a": INPUTS, "b": INPUTS}
    samples = started_anew({"one": side, "two": side}, cases, PLAN, np.random.default_rng(0))
    assert len(opened) == PLAN.rounds
    assert sorted({tuple(names) for names in opened}) == [("one", "two"), ("two", "one")]
    for found in samples.values():
        assert {name: times.shape for name, times in found.latencies_ms.items()} == {"one": (5, 2), "two": (5, 2)}


def test_joined_are_the_rounds_of_the_sides_that_are_in_all() -> None:
    one = Samples(latencies_ms={"a": np.ones((2, 3)), "b": np.ones((2, 3))}, waiting_share=0.1)
    two = Samples(latencies_ms={"a": np.zeros((1, 3))}, waiting_share=0.3)
    both = joined([one, two])
    assert {name: times.mean(axis=1).tolist() for name, times in both.latencies_ms.items()} == {"a": [1, 1, 0]}
    assert both.waiting_share == pytest.approx(0.2)
    assert joined([one, Samples(latencies_ms=two.latencies_ms, waiting_share=None)]).waiting_share is None


def test_the_rounds_with_the_least_waiting_count() -> None:
    def done(first: float, second: float, latency: float) -> dict[str, Block]:
        return {
            "pytorch": Block(latencies_ms=[latency], waiting_share=first),
            "onnxruntime": Block(latencies_ms=[latency], waiting_share=second),
        }

    samples = quietest([done(0.0, 0.9, 9), done(0.01, 0.0, 1), done(0.5, 0.0, 5), done(0.0, 0.02, 2)], 2)
    assert samples.latencies_ms["pytorch"].tolist() == [[1], [2]]
    assert samples.waiting_share == 0.02


def test_waiting_is_not_known_where_the_system_does_not_tell() -> None:
    block = Block(latencies_ms=[1.0], waiting_share=None)
    assert quietest([{"pytorch": block, "onnxruntime": block}], 1).waiting_share is None


@pytest.mark.slow
def test_the_arithmetic_of_bert_is_counted_with_its_attention() -> None:
    inputs = {name: np.ones((3, 8), dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    inputs["attention_mask"][0, 5:] = 0
    with MeasuredProcess("pytorch", bert("BertModel")) as process:
        gflop = process.ask(count_gflop, inputs)
        assert process.ask(gemm_gflops) > 0.1
    tokens, hidden, middle = 3 * 8, 32, 64
    linear = 2 * (4 * 2 * tokens * hidden * hidden + 2 * 2 * tokens * hidden * middle)
    attention, pooler = 2 * (2 * 2 * 3 * 8 * 8 * hidden), 2 * 3 * hidden * hidden
    assert gflop * 1e9 == pytest.approx(linear + attention + pooler)


@pytest.mark.slow
@pytest.mark.usefixtures("no_process_left")
def test_one_side_that_fails_ends_the_other(side: OnnxruntimeSide) -> None:
    sides: dict[str, Side] = {"onnxruntime": side, "pytorch": bert("BrtModel")}
    with pytest.raises(ExportError, match="no model class 'BrtModel'"), open_processes(sides):
        pass


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process together with its parent")
def test_a_suspended_process_dies_with_its_killed_parent(side: OnnxruntimeSide) -> None:
    script = f"""
import time
from pathlib import Path
from modelbuild.measure.processes import MeasuredProcess
from modelbuild.runtime.session import SessionSettings
from modelbuild.measure.sides import OnnxruntimeSide
model = Path({str(side.model)!r})
side = OnnxruntimeSide(model=model, outputs=(), providers=(("cpu", {{}}),), settings=SessionSettings())
with MeasuredProcess("onnxruntime", side) as process:
    print(process.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, alive = psutil.wait_procs([orphan], timeout=10)
    assert (gone, alive) == ([orphan], [])
