"""Candidates of a search beside each other, started anew several times, as far as a budget reaches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelbuild.errors import ModelbuildError
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import Case, MeasuredGraph
from modelbuild.measure.probes import run_block
from modelbuild.measure.processes import (
    MeasuredProcess,
    Samples,
    in_new_order,
    interleave,
    joined,
    open_processes,
)
from modelbuild.measure.sides import Arrays, OnnxruntimeSide
from modelbuild.optimization.job import Job
from modelbuild.optimization.trials import Trial, say
from modelbuild.runtime.session import SessionSettings
from modelbuild.session_presets import preset
from modelbuild.spec import Benchmark
from modelbuild.stage_spec import OptimizeSpec, Timing

_FEWEST_STARTS, _STARTS, _MOST_ROUNDS, _RUNS = 5, 7, 15, 3
# What disturbs a call makes it longer: the quarter of them that was disturbed least says most of the graph.
_UNDISTURBED = 0.25
_SEED = 0


def timed(job: Job, spec: OptimizeSpec, trials: Mapping[str, Trial], budget_s: float) -> dict[str, Samples]:
    """The candidates that can ship beside each other, by shape: what a call of each took in every start, `(starts, 1)`,
    the lower quartile; nothing where there is one alone. Notes at each what it took; one that does not run where it is
    to run loses its file.
    """
    assert spec.timing is not None
    for_inputs, for_orders = np.random.default_rng(_SEED).spawn(2)
    graph = MeasuredGraph(name="model", several=False, file=job.source, interface=job.interface)
    cases = list(graph.cases(spec.optimization.shapes, for_inputs))
    with exclusive("benchmark", say):
        deadline = time.monotonic() + budget_s
        sides = {kind: _side(job, spec.timing, trial) for kind, trial in trials.items()}
        for kind, side in sides.items():
            _require_runs(trials[kind], side, cases)
        running = {kind: side for kind, side in sides.items() if trials[kind].file}
        if len(running) < 2:
            return {}
        starts: list[_Start] = []
        while len(starts) < _FEWEST_STARTS or (len(starts) < _STARTS and time.monotonic() < deadline):
            starts.append(_started(running, cases, (deadline, len(starts)), for_orders))
    samples = {case.label: joined([start.samples[case.label] for start in starts]) for case in cases}
    for kind in running:
        medians = {shape: float(np.median(found.latencies_ms[kind])) for shape, found in samples.items()}
        load_ms = float(np.median([start.load_ms[kind] for start in starts]))
        trials[kind].facts |= {"load_ms": load_ms, "latency_ms": medians}
    return samples


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What was measured with processes that were started once: a figure `(1, 1)` by shape, and load times."""

    samples: Mapping[str, Samples]
    load_ms: Mapping[str, float]


def _started(
    sides: Mapping[str, OnnxruntimeSide], cases: Sequence[Case], when: tuple[float, int], rng: np.random.Generator
) -> _Start:
    """Every candidate on every shape, opened anew in another order, in the share of the time until the deadline that
    the start of this number has.
    """
    deadline, number = when
    found: dict[str, Samples] = {}
    with open_processes(in_new_order(sides, rng)) as processes:
        until = time.monotonic() + (deadline - time.monotonic()) / (_STARTS - number)
        for place, case in enumerate(cases):
            share_s = (until - time.monotonic()) / (len(cases) - place)
            samples = interleave(processes, case.inputs, _plan(processes, case.inputs, share_s), rng)
            times = samples.latencies_ms
            figures = {kind: np.quantile(times[kind], _UNDISTURBED, keepdims=True) for kind in sides}
            found[case.label] = replace(samples, latencies_ms=figures)
        say(f"timed, start {number + 1} of {_STARTS} at most: {', '.join(sides)}")
        return _Start(samples=found, load_ms={kind: process.facts.load_ms for kind, process in processes.items()})


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


def _plan(processes: Mapping[str, MeasuredProcess], inputs: Arrays, share_s: float) -> Benchmark:
    """As many rounds as fit into `share_s` seconds, by what one call of every candidate takes, and at least one; with
    one call in a block where not even that fits.
    """
    for process in processes.values():
        process.ask(run_block, inputs, 1)
    began = time.monotonic()
    for process in processes.values():
        process.ask(run_block, inputs, 1)
    call_s = (time.monotonic() - began) / 2  # each block has a call before it that does not count
    runs = _RUNS if call_s * (1 + _RUNS) <= share_s else 1
    rounds = min(max(int(share_s / (call_s * (1 + runs))), 1), _MOST_ROUNDS)
    return Benchmark(kind="quick", runs=runs, warmup=1).model_copy(update={"rounds": rounds})
