"""A model in many threads, forks and after its end; what it counts; how it does."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from modelbuild.errors import ClosedError, HostError, InputError
from modelbuild.runtime import load
from modelbuild.runtime.metrics import BUCKETS_S, Metrics
from modelbuild.runtime.selfcheck import GOLDEN_FILE, Golden, differences

INPUTS = {"input_ids": [[4, 5]], "attention_mask": [[1, 1]]}


def test_threads_run_one_model_and_get_the_golden_outputs(package: Path) -> None:
    with np.load(package / GOLDEN_FILE) as golden:
        inputs = {name: golden[f"model/input.{name}"] for name in INPUTS}
        expected = golden["model/output.states"]
    model = load(package)

    def run(_: int) -> int:
        return sum(not np.array_equal(model.run(inputs)["states"], expected) for _ in range(50))

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(run, range(32))) == 0
    assert model.metrics["model"].runs == 32 * 50
    assert model.metrics["model"].running == 0


@pytest.mark.slow
def test_many_runs_in_many_threads_give_the_golden_outputs_in_flat_memory(package: Path) -> None:
    with np.load(package / GOLDEN_FILE) as golden:
        inputs = {name: golden[f"model/input.{name}"] for name in INPUTS}
        expected = golden["model/output.states"]
    model, process = load(package), psutil.Process()

    def run(times: int) -> int:
        return sum(not np.array_equal(model.run(inputs)["states"], expected) for _ in range(times))

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(run, [500] * 32)) == 0
        before = process.memory_info().rss
        assert sum(threads.map(run, [2000] * 32)) == 0
        assert process.memory_info().rss - before < 8 << 20
    assert model.metrics["model"].runs == 32 * 2500


def test_a_closed_model_says_so_and_runs_that_were_begun_come_to_their_end(package: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def held(graph: str) -> Iterator[None]:
        yield
        entered.set()
        assert go_on.wait(10)

    model = load(package, around=held)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(model.run, INPUTS)
        assert entered.wait(10)
        model.close()
        model.close()
        go_on.set()
        assert running.result()["states"].shape == (1, 2, 4)
    with pytest.raises(ClosedError, match="the model is closed: tiny: load it again"):
        model.run(INPUTS)
    assert model.closed
    assert model.health().problem == "the model is closed: tiny: load it again"


def test_a_model_is_closed_at_the_end_of_its_context(package: Path) -> None:
    with load(package) as model:
        model.run(INPUTS)
    assert model.closed


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told_to_load_its_own(package: Path) -> None:
    model = load(package)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            model.run(INPUTS)
        except HostError as error:
            code = 0 if "before this process was forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert model.run(INPUTS)["states"].shape == (1, 2, 4)


def test_runs_and_errors_are_counted(package: Path) -> None:
    model = load(package)
    assert model.metrics["model"].runs == 0  # the self-check is no run
    for _ in range(3):
        model.run(INPUTS)
    with pytest.raises(InputError):
        model.run({"input_ids": [[1]]})
    with pytest.raises(InputError):
        model.run({**INPUTS, "ids": 1})
    found = model.metrics["model"]
    assert (found.runs, found.errors, found.running, found.slow) == (5, {"InputError": 2}, 0, 0)
    assert sum(found.buckets) == 3
    assert found.seconds > 0


def test_latencies_fall_into_their_buckets() -> None:
    metrics = Metrics("tiny", ["model"])
    for seconds in (0.0001, 0.0005, 0.0006, 9.9, 11.0):
        metrics.began("model")
        metrics.ended("model", seconds)
    found = metrics.snapshot()["model"]
    assert len(found.buckets) == len(BUCKETS_S) + 1
    assert (found.buckets[0], found.buckets[1], found.buckets[-2], found.buckets[-1]) == (2, 1, 1, 1)
    assert found.seconds == pytest.approx(20.9012)


def test_a_slow_run_is_warned_of(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load(package, slow_s=0.0)
    with caplog.at_level(logging.WARNING, logger="modelbuild.runtime"):
        model.run(INPUTS)
    (record,) = caplog.records
    assert record.name == "modelbuild.runtime"
    assert record.getMessage().startswith("tiny: model took ")
    assert model.metrics["model"].slow == 1
    quick = load(package, slow_s=60.0)
    caplog.clear()
    quick.run(INPUTS)
    assert not caplog.records


def test_a_context_is_around_every_run(package: Path) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def span(graph: str) -> Iterator[None]:
        seen.append(f"begin {graph}")
        try:
            yield
        finally:
            seen.append(f"end {graph}")

    model = load(package, around=span)
    assert seen == []
    model.run(INPUTS)
    with pytest.raises(InputError):
        model.run({})
    assert seen == ["begin model", "end model"] * 2


def test_health_is_that_of_the_golden_inputs(package: Path) -> None:
    model = load(package)
    health = model.health()
    assert health.passed
    assert [(item.graph, item.output, item.passed) for item in health.outputs] == [("model", "states", True)]
    assert health.seconds > 0
    assert model.metrics["model"].runs == 0


def test_health_says_what_is_wrong(package: Path) -> None:
    loaded = load(package)
    with np.load(package / GOLDEN_FILE) as golden:
        arrays = dict(golden)
    arrays["model/output.states"][0, 0, 0] += 1
    np.savez(package / GOLDEN_FILE, **arrays)
    health = load(package, verify=False).health()
    assert not health.passed
    assert health.problem.startswith("model: states differs by 1")
    unreadable = load(package, verify=False)
    (package / GOLDEN_FILE).write_bytes(b"")
    assert "golden.npz does not fit" in unreadable.health().problem
    shutil.rmtree(package)  # as when a version is removed that is in use
    assert loaded.health().passed


@pytest.mark.parametrize(
    ("expected", "found", "worst"),
    [
        ([29980, 30], [29980, 30], 0.0),
        ([29980, 30], [30001, 8], 22.0),
        ([2**62], [2**62 + 5], 1.0),
        ([True], [False], 1.0),
        (["yes"], ["no"], np.inf),
        ([1, 2], [1], np.inf),
    ],
)
def test_whole_numbers_and_words_must_be_equal(expected: list[Any], found: list[Any], worst: float) -> None:
    golden = Golden(inputs={"model": {}}, outputs={"model": {"out": np.array(expected)}})
    (difference,) = differences(golden, lambda *_: {"out": np.array(found)})
    assert (difference.worst, difference.limit, difference.passed) == (worst, 0.0, worst == 0)


def test_a_context_that_swallows_an_error_hides_none(package: Path) -> None:
    model = load(package, around=lambda _: contextlib.suppress(Exception))
    with pytest.raises(HostError, match="`around` swallowed the error"):
        model.run({})
    assert model.metrics["model"].errors == {"HostError": 1}


def test_a_model_says_what_it_is(package: Path) -> None:
    model = load(package)
    assert repr(model) == f"<Model tiny {model.digest[:12]}, CPUExecutionProvider>"
    model.close()
    assert repr(model).endswith(", closed>")


_FORKED = """
import gc, os, sys, time
from modelbuild.errors import ClosedError, HostError
from modelbuild.runtime import ModelCache, load
package, what = sys.argv[1:]
options = {"session": {"intra_op_num_threads": 2}}
model, cache = load(package, **options), ModelCache()
inputs = {"input_ids": [[4, 5]], "attention_mask": [[1, 1]]}
with cache.use(package, **options) as other:
    other.run(inputs)
model.run(inputs)
held = model._metrics._counters["model"]._lock
if what == "locked":
    held.acquire()
time.sleep(0.3)  # its threads sleep then, and never wake up in another process
child = os.fork()
if child == 0:
    if what == "close":
        model.close()
        cache.close()
    elif what == "forget":
        del model, other
        gc.collect()
    elif what == "use":
        assert cache.status().models == 0
        with cache.use(package, **options) as anew:
            assert anew.run(inputs)["states"].shape == (1, 2, 4)
    else:
        try:
            model.run(inputs)
        except HostError as error:
            assert "before this process was forked" in str(error)
    sys.exit(7)  # through all that Python does at its end
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["close", "forget", "use", "run", "locked"])
def test_a_forked_process_waits_for_no_thread_of_the_other(package: Path, what: str) -> None:
    line = [sys.executable, "-W", "ignore", "-c", _FORKED, str(package), what]
    finished = subprocess.run(line, timeout=60, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (7, "")
