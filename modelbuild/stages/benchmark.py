"""benchmark: PyTorch beside ONNX Runtime on the same inputs, with the same number of threads; how long files take to
load; and which session preset suits this machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.measure.beside import GraphFigures, measure_graph
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import MeasuredGraph, measured_graphs, shapes_of
from modelbuild.measure.loading import load_times
from modelbuild.measure.presets import best_preset
from modelbuild.measure.sides import CompiledSide, OnnxruntimeSide, PytorchSide, Side
from modelbuild.measure.statistics import RESAMPLES, compare, rounded
from modelbuild.measure.tables import SIDES, write_tables
from modelbuild.operator_libraries import verified_libraries
from modelbuild.report import Report
from modelbuild.runtime.session import SessionSettings, session_options
from modelbuild.session_presets import settled
from modelbuild.stage_spec import BenchmarkSpec

# Fewer have no interval to speak of.
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is measured, with what: the graphs, the session of the build, and a scratch folder."""

    spec: BenchmarkSpec
    inputs: Mapping[str, Path]
    graphs: Sequence[MeasuredGraph]
    settings: SessionSettings
    threads: int
    scratch: Path

    def shipped(self, file: Path, graph: MeasuredGraph) -> OnnxruntimeSide:
        """`file`, which takes what `graph` takes, as the package will be opened."""
        return OnnxruntimeSide(
            model=file,
            outputs=graph.interface.output_names(),
            providers=self.spec.providers.choices(),
            settings=self.settings,
            allow_fallback=self.spec.providers.allow_fallback,
        )


def run(spec: BenchmarkSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Measure the graphs in `inputs["optimize"]` against the reference, and their load times against those in
    `inputs["export"]`; write a table for each case into `out/latency/`.

    The report has facts and no checks: being slow is not an error. Load times leave out imports and the disk; peak
    memory is that of a process that holds only the one side, its libraries included; inputs are random, with rows
    padded on the right to random lengths where there is a mask.
    """
    spec = spec.model_copy(update={"session": settled(spec.session, inputs["optimize"])})
    with exclusive("benchmark", _say):
        facts: dict[str, Any] = rounded(_measure(spec, inputs))
    write_tables(facts["cases"], out)
    return Report(stage="benchmark", facts=facts, metrics=_metrics(facts))


def _metrics(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The figures to track: median latencies and the speedup of every case, and load times."""
    cases = {
        name: {f"{side}_p50_ms": case[side]["p50_ms"] for side in SIDES if side in case}
        | {"speedup": case["speedup"]["median"]}
        for name, case in facts["cases"].items()
    }
    return cases | _load_ms(facts)


def _load_ms(facts: Mapping[str, Any]) -> dict[str, float]:
    """How long all graphs take to load, as they ship and as they were exported."""
    times = [graph["load_ms"] for graph in facts["graphs"].values()]
    names = {"load_ms": "onnxruntime", "exported_load_ms": "exported"}
    return {key: sum(found[name] for found in times) for key, name in names.items()} if times else {}


def _measure(spec: BenchmarkSpec, inputs: Mapping[str, Path]) -> dict[str, Any]:
    load_average = os.getloadavg()[0]
    settings = SessionSettings.from_mapping(
        spec.session.settings() | {"custom_ops": verified_libraries(spec.custom_ops, inputs)}
    )
    with tempfile.TemporaryDirectory(prefix="modelbuild-") as scratch:
        job = _Job(
            spec=spec,
            inputs=inputs,
            graphs=measured_graphs(inputs["optimize"]),
            settings=settings,
            threads=int(session_options(settings).intra_op_num_threads),
            scratch=Path(scratch),
        )
        figures = _beside(job)
        loading = {graph.name: _loading(job, graph) for graph in job.graphs}
        sessions = _sessions(job)
    last = figures[job.graphs[-1].name]
    plan = spec.benchmark
    return {
        "status": "measured",
        "host": spec.host,
        "threads": job.threads,
        "rounds": plan.rounds,
        "runs": plan.runs,
        "loads": plan.loads,
        "bootstrap_resamples": RESAMPLES,
        "load_average": load_average,
        "versions": last.versions,
        "devices": last.devices,
        "gemm_gflops": last.gemm_gflops,
        "notes": _notes(job, figures.values()),
        "graphs": {name: _graph_facts(found, loading[name]) for name, found in figures.items()},
        "sessions": sessions,
        "cases": {label: case for found in figures.values() for label, case in found.cases.items()},
    }


def _beside(job: _Job) -> dict[str, GraphFigures]:
    """Every graph beside its original, by name."""
    figures: dict[str, GraphFigures] = {}
    peak = None
    for graph in job.graphs:
        _say(f"loading {graph.name} on every side")
        figures[graph.name] = measure_graph(job.spec, graph, _sides(job, graph), peak, _say)
        peak = figures[graph.name].gemm_gflops
    return figures


def _sides(job: _Job, graph: MeasuredGraph) -> dict[str, Side]:
    eager = PytorchSide(
        model=job.spec.model,
        task=job.spec.task,
        component=graph.name,
        folder=job.inputs.get("source"),
        threads=job.threads,
        weights=job.inputs.get("weights"),
    )
    compiled = CompiledSide(eager=eager, scratch=job.scratch / graph.name)
    beside = {"compiled": compiled} if job.spec.benchmark.compile else {}
    return {"pytorch": eager, **beside, "onnxruntime": job.shipped(graph.file, graph)}


def _loading(job: _Job, graph: MeasuredGraph) -> dict[str, Any]:
    """The load times of the file that ships and of the one that was exported, and how they compare."""
    plan = job.spec.benchmark
    exported = job.inputs["export"] / graph.file.relative_to(job.inputs["optimize"])
    sides = {"onnxruntime": job.shipped(graph.file, graph), "exported": job.shipped(exported, graph)}
    times = load_times(sides, plan.loads, np.random.default_rng(plan.seed))
    medians = {name: float(np.median(found)) for name, found in times.items()}
    speedup = compare(times["exported"], times["onnxruntime"], seed=plan.seed)
    _say(f"{graph.name} loads in {medians['onnxruntime']:.3g} ms, the exported file in {medians['exported']:.3g} ms")
    return {"load_ms": medians, "load_speedup": asdict(speedup)}


def _sessions(job: _Job) -> dict[str, Any]:
    """Every session preset on all graphs, and the one to use here: on fewer rounds and smaller batches."""
    spec, plan = job.spec, job.spec.benchmark
    fewer = plan.model_copy(update={"rounds": max(_FEWEST_ROUNDS, plan.rounds // 2)})
    smaller = plan.model_copy(update={"batch_sizes": tuple(sorted(set(plan.batch_sizes))[:2])})
    _say("measuring the session presets")
    best = best_preset(job.graphs, spec.session, spec.providers, job.settings.custom_ops, shapes_of(smaller), fewer)
    _say(f"session={best.preset} is best here: {best.reason}")
    return best.facts()


def _graph_facts(figures: GraphFigures, loading: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "load_ms": {**figures.load_ms, **loading["load_ms"]},
        "load_speedup": loading["load_speedup"],
        "peak_memory_mib": figures.peak_memory_mib,
    }


def _notes(job: _Job, figures: Iterable[GraphFigures]) -> list[str]:
    """What was asked for and not measured, a line each."""
    cut = [line for graph in job.graphs for line in graph.cut(job.spec.benchmark.sequence_lengths)]
    return list(dict.fromkeys([*cut, *(note for found in figures for note in found.notes)]))


def _say(line: str) -> None:
    print(f"benchmark: {line}", file=sys.stderr, flush=True)
