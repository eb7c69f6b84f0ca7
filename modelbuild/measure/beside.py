"""One graph beside its original: PyTorch in eager mode, if asked for what torch.compile makes of it, ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from modelbuild.measure.graphs import Case, MeasuredGraph, shapes_of
from modelbuild.measure.probes import compile_for, count_gflop, gemm_gflops, peak_memory_mib
from modelbuild.measure.processes import WAITING_LIMIT, MeasuredProcess, Samples, interleave, joined, open_processes
from modelbuild.measure.sides import Side
from modelbuild.measure.statistics import Latency, Speedup, compare, summarize
from modelbuild.runtime.cores import usable_cores
from modelbuild.stage_spec import BenchmarkSpec

LIBRARIES = {"pytorch": "torch", "onnxruntime": "onnxruntime"}
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One case, measured: the figures of each side by name, and how ONNX Runtime compares with the others.

    `compile_s` is how long torch.compile took before, None where it was not asked for or had a `problem`.
    """

    case: Case
    waiting_share: float | None
    latency: Mapping[str, Latency]
    speedup: Speedup
    speedup_over_compiled: Speedup | None = None
    compile_s: float | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class GraphFigures:
    """One graph, measured: facts of its cases by label, and by side its load time, memory and device, and versions.

    `gemm_gflops` is the measured peak of this machine; `notes` say what could not be measured.
    """

    cases: Mapping[str, Any]
    load_ms: Mapping[str, float]
    peak_memory_mib: Mapping[str, float]
    devices: Mapping[str, str]
    versions: Mapping[str, str]
    gemm_gflops: float
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What processes that were started once gave of one case, and what came of torch.compile there."""

    samples: Samples
    compile_s: float | None
    problem: str


def measure_graph(
    spec: BenchmarkSpec, graph: MeasuredGraph, sides: Mapping[str, Side], peak: float | None, say: Say
) -> GraphFigures:
    """Every case of `graph` on all `sides`, interleaved; `say` is told of each. The peak is measured where it is None.

    Half of the rounds are those of processes that were opened in one order, and half of others that were opened in the
    other: the one that is opened first is the slowest (see `processes.started_anew`). Raises what the loading or a call
    of a side raises; but what torch.compile cannot do is a note.
    """
    # Apart, because how many orders are drawn depends on how quiet the machine is, and the inputs must not.
    for_inputs, for_orders = np.random.default_rng(spec.benchmark.seed).spawn(2)
    cases = list(graph.cases(shapes_of(spec.benchmark), for_inputs))
    later = spec.benchmark.rounds // 2
    with open_processes({name: sides[name] for name in reversed(list(sides))}) as processes:
        first = _parts(spec, processes, cases, spec.benchmark.rounds - later, for_orders)
    with open_processes(sides) as processes:
        second = _parts(spec, processes, cases, later, for_orders)
        measured = [_measured(spec, *found) for found in zip(cases, first, second, strict=True)]
        for done in measured:
            say(_line(done))
        # Asked before the peak and the arithmetic are measured, which take memory of their own.
        kept = {name: process for name, process in processes.items() if name in measured[-1].latency}
        memory = {name: process.ask(peak_memory_mib) for name, process in kept.items()}
        peak = peak or processes["pytorch"].ask(gemm_gflops)
        return GraphFigures(
            cases={done.case.label: _case_facts(done, processes, peak) for done in measured},
            load_ms={name: process.facts.load_ms for name, process in kept.items()},
            peak_memory_mib=memory,
            devices={name: process.facts.device for name, process in kept.items()},
            versions={library: processes[name].facts.version for name, library in LIBRARIES.items()},
            gemm_gflops=peak,
            notes=tuple(dict.fromkeys(done.problem for done in measured if done.problem)),
        )


def _parts(
    spec: BenchmarkSpec,
    processes: Mapping[str, MeasuredProcess],
    cases: Sequence[Case],
    rounds: int,
    rng: np.random.Generator,
) -> list[_Part]:
    """So many rounds of each case. What torch.compile cannot do once is not asked of it again."""
    usable, plan = dict(processes), spec.benchmark.model_copy(update={"rounds": rounds})
    parts = []
    for case in cases:
        compile_s, problem = None, ""
        if "compiled" in usable:
            compilation = usable["compiled"].ask(compile_for, case.inputs)
            compile_s = compilation.compile_s
            if compilation.problem:
                del usable["compiled"]
                problem = f"torch.compile does not work here, and eager mode alone is compared: {compilation.problem}"
        samples = interleave(usable, case.inputs, plan, rng)
        parts.append(_Part(samples=samples, compile_s=compile_s, problem=problem))
    return parts


def _measured(spec: BenchmarkSpec, case: Case, first: _Part, second: _Part) -> Measured:
    samples = joined([first.samples, second.samples])
    both = "compiled" in samples.latencies_ms
    return Measured(
        case=case,
        waiting_share=samples.waiting_share,
        latency={name: summarize(times, batch=case.batch) for name, times in samples.latencies_ms.items()},
        speedup=speedup(spec, samples),
        speedup_over_compiled=speedup(spec, samples, over="compiled") if both else None,
        compile_s=first.compile_s if both else None,
        problem=first.problem or second.problem,
    )


def speedup(spec: BenchmarkSpec, samples: Samples, *, over: str = "pytorch") -> Speedup:
    """How ONNX Runtime compares with the side `over`, or `disturbed` when something else on the machine took the cores
    from them.
    """
    measured = compare(samples.latencies_ms[over], samples.latencies_ms["onnxruntime"], seed=spec.benchmark.seed)
    # With more threads than cores, they wait for each other, whatever else the machine does.
    crowded = spec.session.execution_mode == "parallel" or spec.session.intra_op_num_threads > usable_cores()
    if crowded or samples.waiting_share is None or samples.waiting_share <= WAITING_LIMIT:
        return measured
    return replace(measured, verdict="disturbed")


def _line(measured: Measured) -> str:
    medians = ", ".join(f"{name} {figures.p50_ms:.3g} ms" for name, figures in measured.latency.items())
    ratio = measured.speedup
    return (
        f"{measured.case.label}: {medians}: {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}), {ratio.verdict}"
    )


def _case_facts(measured: Measured, processes: Mapping[str, MeasuredProcess], peak: float) -> dict[str, Any]:
    case = measured.case
    gflop = processes["pytorch"].ask(count_gflop, case.inputs)
    # The peak is that of the CPU, so a share of it says nothing about another device.
    on_cpu = {name: process.facts.device in ("cpu", "CPUExecutionProvider") for name, process in processes.items()}
    over = measured.speedup_over_compiled
    compiled = {"compile_s": measured.compile_s, "speedup_over_compiled": asdict(over)} if over else {}
    return {
        "graph": case.graph,
        "phase": case.phase,
        "batch": case.batch,
        "length": case.length,
        "waiting_share": measured.waiting_share,
        **{name: asdict(figures) for name, figures in measured.latency.items()},
        "speedup": asdict(measured.speedup),
        **compiled,
        "gflop": gflop,
        "share_of_gemm_peak": {
            name: gflop * 1000 / figures.p50_ms / peak if on_cpu[name] else None
            for name, figures in measured.latency.items()
        },
    }
