"""benchmark: PyTorch eager beside ONNX Runtime, on the same inputs, with the same number of threads."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.errors import PackageError
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.probes import count_gflop, gemm_gflops, limits_of_model, peak_memory_mib
from modelbuild.measure.processes import WAITING_LIMIT, MeasuredProcess, Samples, interleave, open_processes
from modelbuild.measure.sides import OnnxruntimeSide, PytorchSide, Side
from modelbuild.measure.statistics import RESAMPLES, Latency, Speedup, compare, rounded, summarize
from modelbuild.report import Report
from modelbuild.runtime.session import SessionSettings, session_options, usable_cores
from modelbuild.samples import Ints, Limits, random_batch
from modelbuild.stage_spec import BenchmarkSpec
from modelbuild.tasks import TASKS

SPEC = BenchmarkSpec
REPORT = "benchmark.json"
LATENCY_FILE = "latency.csv"
_LIBRARIES = {"pytorch": "torch", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch size, measured: its inputs, the figures of each side by name, and how they compare."""

    size: int
    inputs: Mapping[str, Ints]
    waiting_share: float | None
    latency: Mapping[str, Latency]
    speedup: Speedup


def run(spec: BenchmarkSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Measure the graph in `inputs["optimize"]` against the reference, and write `latency.csv` into `out`.

    The report has facts and no checks: being slow is not an error. Load times leave out imports and the disk; peak
    memory is that of a process that holds only the one side, its libraries included; inputs are random tokens with rows
    padded on the right to random lengths.
    """
    if spec.benchmark.kind == "off":
        facts: dict[str, Any] = {"status": "off"}
    else:
        with exclusive("benchmark", _say):
            facts = rounded(_measure(spec, inputs))
    _write_latencies(facts.get("cases", {}), out / LATENCY_FILE)
    return Report(stage="benchmark", facts=facts, metrics=_metrics(facts))


def _metrics(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The figures to track: median latencies and the speedup of every case, and load times."""
    cases = {
        name: {
            "onnxruntime_p50_ms": case["onnxruntime"]["p50_ms"],
            "pytorch_p50_ms": case["pytorch"]["p50_ms"],
            "speedup": case["speedup"]["median"],
        }
        for name, case in facts.get("cases", {}).items()
    }
    return cases | ({"load_ms": facts["load_ms"]["onnxruntime"]} if "load_ms" in facts else {})


def _measure(spec: BenchmarkSpec, inputs: Mapping[str, Path]) -> dict[str, Any]:
    load_average = os.getloadavg()[0]
    settings = SessionSettings.from_mapping(spec.session.model_dump())
    threads = int(session_options(settings).intra_op_num_threads)
    names = _input_names(spec, inputs["optimize"] / MODEL_FILE)
    with open_processes(_sides(spec, inputs, settings, threads)) as processes:
        limits = processes["pytorch"].ask(limits_of_model)
        sequence = min(spec.benchmark.sequence_length, limits.max_positions)
        cases = list(_cases(spec, processes, names, limits, sequence))
        # Asked before the peak and the arithmetic are measured, which take memory of their own.
        memory = {name: process.ask(peak_memory_mib) for name, process in processes.items()}
        peak = processes["pytorch"].ask(gemm_gflops)
        return {
            "status": "measured",
            "host": spec.host,
            "threads": threads,
            "sequence_length": sequence,
            "rounds": spec.benchmark.rounds,
            "runs": spec.benchmark.runs,
            "bootstrap_resamples": RESAMPLES,
            "load_average": load_average,
            "versions": {library: processes[name].facts.version for name, library in _LIBRARIES.items()},
            "devices": {name: process.facts.device for name, process in processes.items()},
            "gemm_gflops": peak,
            "load_ms": {name: process.facts.load_ms for name, process in processes.items()},
            "peak_memory_mib": memory,
            "cases": {f"b{case.size}": _case_facts(case, processes, peak) for case in cases},
        }


def _sides(spec: BenchmarkSpec, inputs: Mapping[str, Path], settings: SessionSettings, threads: int) -> dict[str, Side]:
    return {
        "pytorch": PytorchSide(model=spec.model, task=spec.task, folder=inputs.get("source"), threads=threads),
        "onnxruntime": OnnxruntimeSide(
            model=inputs["optimize"] / MODEL_FILE,
            outputs=TASKS[spec.task].outputs,
            providers=spec.providers.choices(),
            settings=settings,
            allow_fallback=spec.providers.allow_fallback,
        ),
    }


def _input_names(spec: BenchmarkSpec, model: Path) -> tuple[str, ...]:
    names = read_graph(model).signature.input_names()
    unknown = [name for name in names if name not in TASKS[spec.task].inputs]
    if unknown:
        raise PackageError(f"{spec.task} has no input {', '.join(unknown)}", where=model.name, hint="set benchmark=off")
    return names


def _cases(
    spec: BenchmarkSpec,
    processes: Mapping[str, MeasuredProcess],
    names: tuple[str, ...],
    limits: Limits,
    sequence: int,
) -> Iterator[Case]:
    plan = spec.benchmark
    # Apart, because how many orders are drawn depends on how quiet the machine is, and the inputs must not.
    for_inputs, for_orders = np.random.default_rng(plan.seed).spawn(2)
    for size in plan.batch_sizes:
        batch = random_batch(names, limits, batch=size, sequence=sequence, mask="right", rng=for_inputs)
        samples = interleave(processes, batch.inputs, plan, for_orders)
        case = Case(
            size=size,
            inputs=batch.inputs,
            waiting_share=samples.waiting_share,
            latency={name: summarize(times, batch=size) for name, times in samples.latencies_ms.items()},
            speedup=speedup(spec, samples),
        )
        _say(_line(case))
        yield case


def speedup(spec: BenchmarkSpec, samples: Samples) -> Speedup:
    """How the sides compare, or `disturbed` when something else on the machine took the cores from them."""
    measured = compare(samples.latencies_ms["pytorch"], samples.latencies_ms["onnxruntime"], seed=spec.benchmark.seed)
    # With more threads than cores, they wait for each other, whatever else the machine does.
    crowded = spec.session.execution_mode == "parallel" or spec.session.intra_op_num_threads > usable_cores()
    if crowded or samples.waiting_share is None or samples.waiting_share <= WAITING_LIMIT:
        return measured
    return replace(measured, verdict="disturbed")


def _line(case: Case) -> str:
    medians = ", ".join(f"{name} {figures.p50_ms:.3g} ms" for name, figures in case.latency.items())
    ratio = case.speedup
    return f"b{case.size}: {medians}: {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}), {ratio.verdict}"


def _case_facts(case: Case, processes: Mapping[str, MeasuredProcess], peak: float) -> dict[str, Any]:
    gflop = processes["pytorch"].ask(count_gflop, case.inputs)
    # The peak is that of the CPU, so a share of it says nothing about another device.
    on_cpu = {name: process.facts.device in ("cpu", "CPUExecutionProvider") for name, process in processes.items()}
    return {
        "batch": case.size,
        "waiting_share": case.waiting_share,
        **{name: asdict(figures) for name, figures in case.latency.items()},
        "speedup": asdict(case.speedup),
        "gflop": gflop,
        "share_of_gemm_peak": {
            name: gflop * 1000 / figures.p50_ms / peak if on_cpu[name] else None
            for name, figures in case.latency.items()
        },
    }


def _write_latencies(cases: Mapping[str, Any], path: Path) -> None:
    columns = ("p50_ms", "p90_ms", "p99_ms")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("bar", "case", "side", *columns))
        for name, case in cases.items():
            writer.writerows(
                (f"{name} {side}", name, side, *(case[side][column] for column in columns)) for side in _LIBRARIES
            )


def _say(line: str) -> None:
    print(f"benchmark: {line}", file=sys.stderr, flush=True)
