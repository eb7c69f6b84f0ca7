"""Candidates of a search beside each other: a process each, in interleaved blocks, as far as a budget reaches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from modelbuild.errors import ModelbuildError
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import Case, MeasuredGraph
from modelbuild.measure.probes import run_block
from modelbuild.measure.processes import MeasuredProcess, Samples, interleave, open_processes
from modelbuild.measure.sides import Arrays, OnnxruntimeSide
from modelbuild.optimization.job import Job
from modelbuild.optimization.trials import Trial, say
from modelbuild.runtime.session import SessionSettings
from modelbuild.session_presets import preset
from modelbuild.spec import Benchmark
from modelbuild.stage_spec import OptimizeSpec, Timing

_FEWEST_ROUNDS, _MOST_ROUNDS, _RUNS = 5, 25, 3
_SEED = 0


def timed(job: Job, spec: OptimizeSpec, trials: Mapping[str, Trial], budget_s: float) -> dict[str, Samples]:
    """The candidates that can ship beside each other, by shape; nothing where there is one alone. Notes at each what it
    took; one that does not run where it is to run loses its file.
    """
    assert spec.timing is not None
    for_inputs, for_orders = np.random.default_rng(_SEED).spawn(2)
    graph = MeasuredGraph(name="model", several=False, file=job.source, interface=job.interface)
    cases = list(graph.cases(spec.optimization.shapes, for_inputs))
    with exclusive("benchmark", say):
        sides = {kind: _side(job, spec.timing, trial) for kind, trial in trials.items()}
        for kind, side in sides.items():
            _require_runs(trials[kind], side, cases)
        running = {kind: side for kind, side in sides.items() if trials[kind].file}
        if len(running) < 2:
            return {}
        with open_processes(running) as processes:
            samples = _samples(processes, cases, budget_s, for_orders)
    for kind, process in processes.items():
        medians = {shape: float(np.median(found.latencies_ms[kind])) for shape, found in samples.items()}
        trials[kind].facts |= {"load_ms": process.facts.load_ms, "p50_ms": medians}
    return samples


def cut(job: Job, shapes: Sequence[tuple[int, int]]) -> list[str]:
    """A line for every length that the graph does not take, which says what it is timed with instead."""
    graph = MeasuredGraph(name="the graph", several=False, file=job.source, interface=job.interface)
    return graph.cut([length for _, length in shapes])


def _side(job: Job, timing: Timing, trial: Trial) -> OnnxruntimeSide:
    assert trial.file is not None
    session = preset(timing.session, "latency") if timing.session.auto else timing.session
    return OnnxruntimeSide(
        model=trial.file,
        outputs=job.interface.output_names(),
        providers=timing.providers.choices(),
        settings=SessionSettings.from_mapping(session.settings() | {"custom_ops": job.custom_ops}),
        allow_fallback=timing.providers.allow_fallback,
    )


def _require_runs(trial: Trial, side: OnnxruntimeSide, cases: Sequence[Case]) -> None:
    """Run a candidate once on every case: what fails here is a line in the report, and would end the timing of all."""
    try:
        with MeasuredProcess(trial.kind, side) as process:
            for case in cases:
                process.ask(run_block, case.inputs, 1)
    except ModelbuildError as error:
        trial.fails(error)


def _samples(
    processes: Mapping[str, MeasuredProcess], cases: Sequence[Case], budget_s: float, rng: np.random.Generator
) -> dict[str, Samples]:
    """Every candidate by shape, in as many rounds as the budget allows, and in five at least."""
    found: dict[str, Samples] = {}
    deadline = time.monotonic() + budget_s
    for number, case in enumerate(cases):
        share_s = (deadline - time.monotonic()) / (len(cases) - number)
        found[case.label] = interleave(processes, case.inputs, _plan(processes, case.inputs, share_s), rng)
        say(f"{case.label}: {', '.join(processes)}: timed")
    return found


def _plan(processes: Mapping[str, MeasuredProcess], inputs: Arrays, share_s: float) -> Benchmark:
    """As many rounds as fit into `share_s` seconds, by what one call of every candidate takes, and at least five; with
    one call in a block where not even those fit.
    """
    for process in processes.values():
        process.ask(run_block, inputs, 1)
    began = time.monotonic()
    for process in processes.values():
        process.ask(run_block, inputs, 1)
    call_s = (time.monotonic() - began) / 2  # each block has a call before it that does not count
    runs = _RUNS if call_s * (1 + _RUNS) * _FEWEST_ROUNDS <= share_s else 1
    rounds = min(max(int(share_s / (call_s * (1 + runs))), _FEWEST_ROUNDS), _MOST_ROUNDS)
    return Benchmark(kind="quick", rounds=rounds, runs=runs, warmup=1)
