"""benchmark: PyTorch eager beside ONNX Runtime, on the same inputs, with the same number of threads."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import MeasuredGraph, measured_graphs
from modelbuild.measure.probes import count_gflop, gemm_gflops, peak_memory_mib
from modelbuild.measure.processes import WAITING_LIMIT, MeasuredProcess, Samples, interleave, open_processes
from modelbuild.measure.sides import OnnxruntimeSide, PytorchSide, Side
from modelbuild.measure.statistics import RESAMPLES, Latency, Speedup, compare, rounded, summarize
from modelbuild.operator_libraries import verified_libraries
from modelbuild.report import Report
from modelbuild.runtime.session import SessionSettings, session_options, usable_cores
from modelbuild.samples import Array, sample
from modelbuild.session_presets import settled
from modelbuild.sizes import longest, typical_sizes
from modelbuild.stage_spec import BenchmarkSpec

SPEC = BenchmarkSpec
REPORT = "benchmark.json"
LATENCY_FILE = "latency.csv"
_LIBRARIES = {"pytorch": "torch", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch size, measured: its inputs, the figures of each side by name, and how they compare."""

    label: str
    graph: str
    phase: str
    size: int
    inputs: Mapping[str, Array]
    waiting_share: float | None
    latency: Mapping[str, Latency]
    speedup: Speedup


def run(spec: BenchmarkSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Measure the graph in `inputs["optimize"]` against the reference, and write `latency.csv` into `out`.

    The report has facts and no checks: being slow is not an error. Load times leave out imports and the disk; peak
    memory is that of a process that holds only the one side, its libraries included; inputs are random, with rows
    padded on the right to random lengths where there is a mask.
    """
    spec = spec.model_copy(update={"session": settled(spec.session, inputs["optimize"])})
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
    return cases | _load_ms(facts)


def _load_ms(facts: Mapping[str, Any]) -> dict[str, float]:
    """How long all graphs take to load."""
    graphs = facts.get("graphs", {})
    return {"load_ms": sum(graph["load_ms"]["onnxruntime"] for graph in graphs.values())} if graphs else {}


def _measure(spec: BenchmarkSpec, inputs: Mapping[str, Path]) -> dict[str, Any]:
    load_average = os.getloadavg()[0]
    libraries = verified_libraries(spec.custom_ops, inputs)
    settings = SessionSettings.from_mapping(spec.session.settings() | {"custom_ops": libraries})
    threads = int(session_options(settings).intra_op_num_threads)
    cases: dict[str, Any] = {}
    graphs: dict[str, Any] = {}
    common: dict[str, Any] = {}
    subjects = measured_graphs(inputs["optimize"])
    for subject in subjects:
        with open_processes(_sides(spec, inputs, subject, settings, threads)) as processes:
            measured = list(_cases(spec, processes, subject))
            # Asked before the peak and the arithmetic are measured, which take memory of their own.
            memory = {name: process.ask(peak_memory_mib) for name, process in processes.items()}
            peak = common["gemm_gflops"] if common else processes["pytorch"].ask(gemm_gflops)
            common = {
                "versions": {library: processes[name].facts.version for name, library in _LIBRARIES.items()},
                "devices": {name: process.facts.device for name, process in processes.items()},
                "gemm_gflops": peak,
            }
            cases |= {case.label: _case_facts(case, processes, peak) for case in measured}
            load_ms = {name: process.facts.load_ms for name, process in processes.items()}
            graphs[subject.name] = {"load_ms": load_ms, "peak_memory_mib": memory}
    return {
        "status": "measured",
        "host": spec.host,
        "threads": threads,
        **_length(spec, subjects),
        "rounds": spec.benchmark.rounds,
        "runs": spec.benchmark.runs,
        "bootstrap_resamples": RESAMPLES,
        "load_average": load_average,
        **common,
        "graphs": graphs,
        "cases": cases,
    }


def _length(spec: BenchmarkSpec, subjects: Sequence[MeasuredGraph]) -> dict[str, int]:
    """The number of positions that graphs with positions were given; nothing where none has any."""
    found = [longest(subject.interface) for subject in subjects if subject.interface.axes_of("length")]
    return {"sequence_length": min(spec.benchmark.sequence_length, *found)} if found else {}


def _sides(
    spec: BenchmarkSpec, inputs: Mapping[str, Path], subject: MeasuredGraph, settings: SessionSettings, threads: int
) -> dict[str, Side]:
    return {
        "pytorch": PytorchSide(
            model=spec.model,
            task=spec.task,
            component=subject.name,
            folder=inputs.get("source"),
            threads=threads,
            weights=inputs.get("weights"),
        ),
        "onnxruntime": OnnxruntimeSide(
            model=subject.file,
            outputs=subject.interface.output_names(),
            providers=spec.providers.choices(),
            settings=settings,
            allow_fallback=spec.providers.allow_fallback,
        ),
    }


def _cases(spec: BenchmarkSpec, processes: Mapping[str, MeasuredProcess], subject: MeasuredGraph) -> Iterator[Case]:
    plan = spec.benchmark
    # Apart, because how many orders are drawn depends on how quiet the machine is, and the inputs must not.
    for_inputs, for_orders = np.random.default_rng(plan.seed).spawn(2)
    for (phase, (new, past)), size in itertools.product(subject.phases(plan.sequence_length).items(), plan.batch_sizes):
        sizes = typical_sizes(subject.interface, batch=size, length=new, past=past)
        batch = sample(subject.interface, sizes, mask="right", rng=for_inputs)
        samples = interleave(processes, batch.inputs, plan, for_orders)
        case = Case(
            label=subject.label(phase, size),
            graph=subject.name,
            phase=phase,
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
    return f"{case.label}: {medians}: {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}), {ratio.verdict}"


def _case_facts(case: Case, processes: Mapping[str, MeasuredProcess], peak: float) -> dict[str, Any]:
    gflop = processes["pytorch"].ask(count_gflop, case.inputs)
    # The peak is that of the CPU, so a share of it says nothing about another device.
    on_cpu = {name: process.facts.device in ("cpu", "CPUExecutionProvider") for name, process in processes.items()}
    return {
        "graph": case.graph,
        "phase": case.phase,
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
