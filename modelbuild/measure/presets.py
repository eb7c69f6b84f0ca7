"""The session presets, measured on a graph, and which of them this machine is best used with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import numpy as np

from modelbuild.errors import HostError
from modelbuild.measure.graphs import MeasuredGraph, Shape
from modelbuild.measure.processes import WAITING_LIMIT, started_anew
from modelbuild.measure.sides import OnnxruntimeSide
from modelbuild.measure.statistics import Floats, Speedup, compare
from modelbuild.runtime.session import ProviderChoice, SessionSettings, session_options
from modelbuild.session_presets import PRESETS, preset
from modelbuild.spec import Benchmark, Providers, Session

Demand = tuple[int, int]
CaseLatencies = Mapping[str, Floats]


@dataclass(frozen=True, kw_only=True)
class PresetFigures:
    """One preset: its median latency in ms by case, their geometric mean, and how many times longer it takes than the
    fastest preset.
    """

    p50_ms: Mapping[str, float]
    mean_ms: float
    ratio: Speedup


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The preset to use on this machine, why in one line, and the figures of every preset that was measured.

    `disturbed` says that something else took the cores meanwhile: then another time may recommend another.
    """

    preset: str
    reason: str
    disturbed: bool
    presets: Mapping[str, PresetFigures]

    def facts(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PresetLatencies:
    """Latencies in ms by preset and case, each `(rounds, runs)` with as many rounds as the others; and whether threads
    waited for a core that something else had.
    """

    by_preset: Mapping[str, CaseLatencies]
    disturbed: bool

    def joined(self, other: PresetLatencies) -> PresetLatencies:
        """These and the cases of another graph, which have other names."""
        cases = {name: dict(found) | dict(other.by_preset[name]) for name, found in self.by_preset.items()}
        return PresetLatencies(by_preset=cases, disturbed=self.disturbed or other.disturbed)


def best_preset(
    graphs: Sequence[MeasuredGraph],
    session: Session,
    providers: Providers,
    custom_ops: Sequence[str],
    shapes: Sequence[Shape],
    plan: Benchmark,
) -> Recommendation:
    """Every preset, with the entries of `session` that are no preset's, on all `graphs` for each of `shapes` (batch,
    length), as `plan` says, and the one to use. The caller sees to it that nothing else is measured meanwhile.

    Raises what opening a session raises, and HostError when a process dies.
    """
    settings = preset_settings(session, providers.choices(), custom_ops)
    measured = [_latencies(graph, settings, providers, shapes, plan) for graph in graphs]
    return recommend(reduce(PresetLatencies.joined, measured), demands(settings), seed=plan.seed)


def preset_settings(
    session: Session, providers: Sequence[ProviderChoice], custom_ops: Sequence[str]
) -> dict[str, SessionSettings]:
    """By name, the settings of the presets that run on `providers`, with the entries of `session` and with libraries.

    Beside another provider than the CPU, operators run in turn.
    """
    only_cpu = all(name == "cpu" for name, _ in providers)
    return {
        name: SessionSettings.from_mapping(preset(session, name).settings() | {"custom_ops": tuple(custom_ops)})
        for name, values in PRESETS.items()
        if only_cpu or values["execution_mode"] == "sequential"
    }


def _latencies(
    graph: MeasuredGraph,
    settings: Mapping[str, SessionSettings],
    providers: Providers,
    shapes: Sequence[Shape],
    plan: Benchmark,
) -> PresetLatencies:
    """Sessions with `settings`, by name, each in a process of its own and interleaved, on every case of `graph`; every
    round with new processes."""
    for_inputs, for_orders = np.random.default_rng(plan.seed).spawn(2)
    sides = {
        name: OnnxruntimeSide(
            model=graph.file,
            outputs=graph.interface.output_names(),
            providers=providers.choices(),
            settings=chosen,
            allow_fallback=providers.allow_fallback,
        )
        for name, chosen in settings.items()
    }
    cases = {case.label: case.inputs for case in graph.cases(shapes, for_inputs)}
    measured = started_anew(sides, cases, plan, for_orders)
    return PresetLatencies(
        by_preset={name: {label: found.latencies_ms[name] for label, found in measured.items()} for name in settings},
        disturbed=any((found.waiting_share or 0.0) > WAITING_LIMIT for found in measured.values()),
    )


def demands(settings: Mapping[str, SessionSettings]) -> dict[str, Demand]:
    """What each of the sessions with `settings`, by name, takes of this machine."""
    return {name: demand(chosen) for name, chosen in settings.items()}


def demand(settings: SessionSettings) -> Demand:
    """What a session takes of this machine: its threads, and whether they spin: not at all, while it runs, or after."""
    options = session_options(settings)
    parallel = settings.execution_mode == "parallel"
    threads = int(options.intra_op_num_threads) + (int(options.inter_op_num_threads) if parallel else 0)
    stops = settings.config_entries.get("session.force_spinning_stop") == "1"
    return threads, (1 if stops else 2) if settings.allow_spinning else 0


def recommend(measured: PresetLatencies, demands: Mapping[str, Demand], *, seed: int) -> Recommendation:
    """The preset with the lowest geometric mean of its median latencies over all cases; but where the interval of how
    many times longer another takes contains 1, that other is as fast, and the one that demands least is the one.

    Raises HostError when nothing was measured.
    """
    if not measured.by_preset or not all(measured.by_preset.values()):
        raise HostError("no session preset was measured", hint="give at least one shape")
    medians = {
        name: {case: float(np.median(times)) for case, times in cases.items()}
        for name, cases in measured.by_preset.items()
    }
    means = {name: float(np.exp(np.mean(np.log(list(cases.values()))))) for name, cases in medians.items()}
    rounds = {name: _means_of_rounds(cases) for name, cases in measured.by_preset.items()}
    fastest = min(means, key=means.__getitem__)
    ratios = {name: compare(rounds[name], rounds[fastest], seed=seed) for name in means}
    as_fast = [name for name in means if name == fastest or ratios[name].low <= 1 <= ratios[name].high]
    chosen = min(as_fast, key=lambda name: demands[name])
    return Recommendation(
        preset=chosen,
        reason=_reason(chosen, fastest, means, ratios),
        disturbed=measured.disturbed,
        presets={name: PresetFigures(p50_ms=medians[name], mean_ms=means[name], ratio=ratios[name]) for name in means},
    )


def _means_of_rounds(cases: CaseLatencies) -> Floats:
    """For each round the geometric mean of the medians of all cases, `(rounds, 1)`."""
    logs: Floats = np.mean([np.log(np.median(times, axis=1)) for times in cases.values()], axis=0)
    return np.asarray(np.exp(logs)).reshape(-1, 1)


def _reason(chosen: str, fastest: str, means: Mapping[str, float], ratios: Mapping[str, Speedup]) -> str:
    if chosen != fastest:
        ratio = ratios[chosen]
        interval = f"{ratio.median:.2f} times as long, {ratio.low:.2f} to {ratio.high:.2f}"
        return f"no slower than {fastest} ({interval}) and takes less of the machine"
    others = [f"{means[name] / means[fastest]:.2f} times as long with {name}" for name in means if name != fastest]
    return f"the fastest: {', '.join(others)}" if others else "the only one that runs here"
