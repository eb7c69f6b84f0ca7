"""optimization=auto: every way to optimize is tried, and the fastest that is right ships.

Every candidate must load and match; those that do are timed beside each other, a process each, in interleaved
blocks. One that is slower than the exported graph in any shape is out; of the others the one with the best ratio over
all shapes wins, or a simpler one that cannot be told from it.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.digest import sha256_file
from modelbuild.errors import ModelbuildError, OptimizeError
from modelbuild.graph import data_file, read_graph
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.graphs import MeasuredGraph
from modelbuild.measure.probes import run_block
from modelbuild.measure.processes import WAITING_LIMIT, MeasuredProcess, Samples, interleave, open_processes
from modelbuild.measure.sides import Arrays, OnnxruntimeSide
from modelbuild.measure.statistics import Floats, compare, rounded
from modelbuild.optimization.job import Job, Made, emit
from modelbuild.runtime.session import SessionSettings
from modelbuild.session_presets import preset
from modelbuild.spec import Benchmark
from modelbuild.stage_spec import OptimizeSpec, Timing

# From the simplest on: of two that are as fast, the one before the other ships. Attention has its linear layers inside,
# where a reduced precision does not reach them.
CANDIDATES = ("none", "extended", "multi_head_attention", "transformer", "ort_transformer")
QUANTIZED = ("none", "extended", "multi_head_attention")
_PLAIN = CANDIDATES[0]

# Making candidates may take this share of the budget; the rest is for timing them.
_MAKING = 0.6
_FEWEST_ROUNDS, _MOST_ROUNDS, _RUNS = 5, 25, 3
_SEED = 0


@dataclass(kw_only=True)
class Trial:
    """One candidate: the graph that it made, and what came of it.

    `why` says why it does not ship, and is empty for the one that does.
    """

    kind: str
    made: Made | None = None
    file: Path | None = None
    why: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def make(job: Job, spec: OptimizeSpec) -> Made:
    """Write the fastest graph that is right. What was tried, what it gave and why it lost is in the facts, `search`.

    Raises OptimizeError when no candidate is right.
    """
    assert spec.timing is not None
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=job.out.parent, prefix=".search.") as scratch:
        trials = list(_tried(job, QUANTIZED if spec.precision.quantizes else CANDIDATES, Path(scratch), spec))
        runnable = {trial.kind: trial for trial in trials if trial.file}
        if not runnable:
            raise OptimizeError(
                f"no candidate can be used: {'; '.join(f'{trial.kind}: {trial.why}' for trial in trials)}",
                where="optimization=auto",
                hint="is it a graph of this model (model=…)? If so, choose another exporter",
            )
        left = max(0.0, spec.optimization.budget_s - (time.monotonic() - started))
        samples = _timed(job, spec, spec.timing, runnable, left)
        latencies = {shape: found.latencies_ms for shape, found in samples.items()}
        chosen = runnable[choose(runnable, latencies)]
        assert chosen.file is not None
        assert chosen.made is not None
        _move(chosen.file, job.out)
    found = {
        "chosen": chosen.kind,
        "budget_s": spec.optimization.budget_s,
        "spent_s": time.monotonic() - started,
        "waiting_share": {shape: found.waiting_share for shape, found in samples.items()},
        "disturbed": any((found.waiting_share or 0) > WAITING_LIMIT for found in samples.values()),
        "candidates": {trial.kind: trial.facts | {"why": trial.why} for trial in trials},
    }
    return replace(chosen.made, facts={**chosen.made.facts, "search": rounded(found)})


def _tried(job: Job, kinds: Sequence[str], scratch: Path, spec: OptimizeSpec) -> Iterator[Trial]:
    """Every candidate, made as far as it can be and the budget allows."""
    started, known = time.monotonic(), dict[tuple[str, ...], str]()
    for kind in kinds:
        trial = Trial(kind=kind)
        if known and time.monotonic() - started > _MAKING * spec.optimization.budget_s:
            trial.why = f"not tried: the {1 - _MAKING:.0%} of optimization.budget_s that are left are for timing"
            yield trial
            continue
        _say(f"{kind}: made")
        folder = scratch / kind
        folder.mkdir()
        file = folder / job.out.name
        began = time.monotonic()
        try:
            trial.made = emit(replace(job, kind=kind, out=file))
        except ModelbuildError as error:
            trial.why = f"wrong: {error.problems[0].what}"
            yield trial
            continue
        content = tuple(sha256_file(path) for path in sorted(folder.glob(f"{file.name}*")))
        twin = known.setdefault(content, kind)
        trial.facts = {"made_s": time.monotonic() - began, "nodes": read_graph(file).nodes}
        if twin == kind:
            trial.file = file
        else:
            trial.why = f"the same graph as {twin}"
        yield trial


def _timed(
    job: Job, spec: OptimizeSpec, timing: Timing, trials: Mapping[str, Trial], budget_s: float
) -> dict[str, Samples]:
    """The candidates beside each other, by shape; nothing where there is one alone. Notes at each what it took."""
    if len(trials) == 1:
        return {}
    with exclusive("benchmark", _say), open_processes({k: _side(job, timing, trials[k]) for k in trials}) as processes:
        samples = _samples(job, spec, processes, budget_s)
    for kind, trial in trials.items():
        medians = {shape: float(np.median(found.latencies_ms[kind])) for shape, found in samples.items()}
        trial.facts |= {"load_ms": processes[kind].facts.load_ms, "p50_ms": medians}
    return samples


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


def _samples(
    job: Job, spec: OptimizeSpec, processes: Mapping[str, MeasuredProcess], budget_s: float
) -> dict[str, Samples]:
    """Every candidate by shape, in as many rounds as the budget allows."""
    for_inputs, for_orders = np.random.default_rng(_SEED).spawn(2)
    graph = MeasuredGraph(name="model", several=False, file=job.source, interface=job.interface)
    cases = list(graph.cases(spec.optimization.shapes, for_inputs))
    found: dict[str, Samples] = {}
    deadline = time.monotonic() + budget_s
    for number, case in enumerate(cases):
        share_s = (deadline - time.monotonic()) / (len(cases) - number)
        plan = _plan(processes, case.inputs, share_s)
        found[case.label] = interleave(processes, case.inputs, plan, for_orders)
        _say(f"{case.label}: {', '.join(processes)}: timed")
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


def choose(trials: Mapping[str, Trial], latencies: Mapping[str, Mapping[str, Floats]]) -> str:
    """Which of the candidates, in order from the simplest, ships by `latencies`, in ms by shape and candidate, each
    `(rounds, runs)`. Notes at the others why they do not.
    """
    plain = next(iter(trials))
    if len(trials) == 1:
        return plain
    scores: dict[str, float] = {}
    for kind, trial in trials.items():
        by_shape = {
            shape: compare(found[plain], found[kind], seed=_SEED) for shape, found in latencies.items() if kind != plain
        }
        trial.facts["speedup"] = {shape: asdict(ratio) for shape, ratio in by_shape.items()}
        slower = [shape for shape, ratio in by_shape.items() if ratio.verdict == "slower"]
        if slower:
            ratio = by_shape[slower[0]]
            trial.why = f"slower than {plain} at {slower[0]}: {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
        else:
            scores[kind] = math.fsum(math.log(ratio.median) for ratio in by_shape.values())
    best = max(scores, key=lambda kind: scores[kind])
    chosen = next(kind for kind in scores if kind == best or _tied(latencies, best, kind))
    for kind in scores.keys() - {chosen}:
        trials[kind].why = _lost(latencies, chosen, kind)
    return chosen


def _tied(latencies: Mapping[str, Mapping[str, Floats]], best: str, kind: str) -> bool:
    """Whether all rounds together, of every shape, cannot tell one from the other."""
    return _over_all(latencies, best, kind) == "no difference"


def _lost(latencies: Mapping[str, Mapping[str, Floats]], chosen: str, kind: str) -> str:
    tied = _over_all(latencies, chosen, kind) == "no difference"
    return f"no faster than {chosen}, which is simpler" if tied else f"slower than {chosen}"


def _over_all(latencies: Mapping[str, Mapping[str, Floats]], one: str, other: str) -> str:
    first, second = (_medians(latencies, kind) for kind in (one, other))
    return compare(first, second, seed=_SEED).verdict


def _medians(latencies: Mapping[str, Mapping[str, Floats]], kind: str) -> Floats:
    """The median of each round of each shape, `(rounds, 1)`: not all shapes were called as often."""
    return np.concatenate([np.median(found[kind], axis=1, keepdims=True) for found in latencies.values()])


def _move(file: Path, out: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        target = out if path.name == file.name else out.parent / data_file(out.name)
        shutil.move(path, target)


def _say(line: str) -> None:
    print(f"optimize: {line}", file=sys.stderr, flush=True)
