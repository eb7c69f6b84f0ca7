"""Results for people at a terminal: short tables on standard output, the path last."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelbuild.manifest import Manifest, read_manifest
from modelbuild.pipeline.driver import Outcome
from modelbuild.pipeline.gc import Collected
from modelbuild.pipeline.state import StageState
from modelbuild.render.optimization import lines
from modelbuild.report import Report, number_text, read_report

_MIB = 1 << 20
_WIDE = 240


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What came of one job of a sweep."""

    number: int
    overrides: str
    exit_code: int
    package: str
    error: str


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """What would become of one stage: `current`, `cached`, `run`, or `shared` with a build earlier in the plan."""

    stage: str
    status: str
    shared_with: str


def print_build(outcome: Outcome) -> None:
    """The finished build: every check, what was done, files, latency, and the package's path on a line of its own."""
    manifest = read_manifest(outcome.package)
    validation = read_report(outcome.folder / "validate" / "validation.json")
    table = _table(manifest.name, f"verified ({manifest.validation['status']})" if manifest.verified else "UNVERIFIED")
    table.add_row("stages", _stages(outcome))
    table.add_row("files", _files(manifest))
    optimized = read_report(outcome.folder / "optimize" / "report.json")
    for line in _fusions(optimized):
        table.add_row("fusions", line)
    for line in lines(manifest.optimization):
        table.add_row("optimized", line)
    if "session" in optimized.facts:
        table.add_row("session", "{chosen} ships: {reason}".format_map(optimized.facts["session"]))
    for line in validation.facts.get("accuracy", []):
        table.add_row("accuracy", line)
    for line in _latency(manifest.benchmark):
        table.add_row("latency", line)
    for line in _loading(manifest.benchmark):
        table.add_row("load time", line)
    for line in _session(manifest.benchmark):
        table.add_row("session", line)
    if outcome.entry:
        table.add_row("registered", f"{outcome.entry.name} {outcome.entry.version}")
    print_checks(validation)
    _console().print(table)
    print(outcome.package)


def print_checks(validation: Report) -> None:
    """Every check with what was compared, the worst case, its limit, and whether it passed; those that failed last."""
    if not validation.checks:
        return
    table = _table("check", "compared", "worst", "limit", "at", "")
    for check in sorted(validation.checks, key=lambda check: not check.passed):
        verdict = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(
            check.name, check.compared, number_text(check.worst), number_text(check.limit), check.where, verdict
        )
    _console().print(table)
    print()


def _console() -> Console:
    """As wide as the terminal; where there is none, wide enough that nothing is folded. Brackets are no markup."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, markup=False)


def _table(*header: str) -> Table:
    table = Table(box=None, show_edge=False, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    return table


def _stages(outcome: Outcome) -> str:
    ran, restored = ", ".join(outcome.stages_run), ", ".join(outcome.stages_restored)
    return (
        "; ".join(part for part in (f"ran {ran}" if ran else "", f"restored {restored}" if restored else "") if part)
        or "nothing to do"
    )


def _files(manifest: Manifest) -> str:
    size = sum(record.size_bytes for record in manifest.files.values())
    return f"{len(manifest.files) + 1} files, {size / _MIB:.1f} MiB"


def _fusions(optimized: Report) -> list[str]:
    """Nothing, for an optimization that promises none."""
    attention, warnings = optimized.facts.get("attention_fusions"), optimized.facts.get("warnings", [])
    return [*(f"warning: {line}" for line in warnings)] or [f"attention in {line}" for line in attention or ()]


def _latency(benchmark: Mapping[str, Any]) -> list[str]:
    if benchmark.get("status") != "measured":
        return ["not measured"]
    return [*(_case(case) for case in benchmark["cases"].values()), *benchmark["notes"]]


def _case(case: Mapping[str, Any]) -> str:
    ours, others = case["onnxruntime"]["p50_ms"], [f"PyTorch eager {_beside(case, 'pytorch', 'speedup')}"]
    if "compiled" in case:
        others.append(f"torch.compile {_beside(case, 'compiled', 'speedup_over_compiled')}")
    what = " ".join(filter(None, (case["graph"] if case["graph"] != "model" else "", case["phase"], "batch")))
    length = f", length {case['length']}" if case["length"] else ""
    return f"{what} {case['batch']}{length}: {ours:.3g} ms, {'; '.join(others)}"


def _beside(case: Mapping[str, Any], side: str, key: str) -> str:
    return f"{case[side]['p50_ms']:.3g} ms, {_ratio(case[key])}"


def _ratio(speedup: Mapping[str, Any]) -> str:
    return f"{speedup['median']:.2f}x ({speedup['low']:.2f} to {speedup['high']:.2f}), {speedup['verdict']}"


def _loading(benchmark: Mapping[str, Any]) -> list[str]:
    """How long each graph takes to load beside the file that it was made of."""
    graphs = benchmark.get("graphs", {})
    lines = []
    for name, found in graphs.items():
        times = f"{found['load_ms']['onnxruntime']:.3g} ms, as exported {found['load_ms']['exported']:.3g} ms"
        lines.append(f"{name + ': ' if len(graphs) > 1 else ''}{times}, {_ratio(found['load_speedup'])}")
    return lines


def _session(benchmark: Mapping[str, Any]) -> list[str]:
    """Which preset suits this machine, and why."""
    found = benchmark.get("sessions")
    if not found:
        return []
    return [f"best here: {found['preset']}, {found['reason']}{' (disturbed)' if found['disturbed'] else ''}"]


def print_sweep(results: Sequence[JobResult]) -> None:
    """Every job of a sweep in one table."""
    table = _table("job", "overrides", "result")
    for result in results:
        table.add_row(str(result.number), result.overrides, result.package or result.error)
    _console().print(table)


def print_plan(plans: Mapping[str, Sequence[PlannedStage]]) -> None:
    """What would become of each stage of each build, and how many stages would run in all."""
    for build, stages in plans.items():
        print(build)
        for stage in stages:
            shared = f" with {stage.shared_with}" if stage.status == "shared" else ""
            print(f"  {stage.stage:<10} {stage.status}{shared}")
    running = sum(stage.status == "run" for stages in plans.values() for stage in stages)
    print(f"builds: {len(plans)}, stages to run: {running}")


def print_why(build: str, against: str, states: Sequence[StageState], changed: Mapping[str, Sequence[str]]) -> None:
    """Each stage with its state, and below it what changed since the build it is compared with."""
    print(f"{build} compared with {against}" if against and against != build else build)
    for state in states:
        print(f"  {state.stage:<10} {state.status}")
        for line in changed[state.stage]:
            print(f"    {line}")


def print_collected(collected: Collected, *, dry: bool) -> None:
    """What a collection deleted, or would."""
    verb = "would delete" if dry else "deleted"
    for name in collected.builds:
        print(f"{verb} build {name}")
    print(
        f"{verb} {collected.objects} objects ({collected.size_bytes / _MIB:.1f} MiB) and "
        f"{collected.run_cache_entries} run-cache entries"
    )
