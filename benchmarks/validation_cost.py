"""What validation costs beside the export of the same model: BERT-base, from seeded random weights, by dynamo.

    python benchmarks/validation_cost.py [--rounds 3] [--out benchmarks/validation_cost.json] [overrides of the build]

Each stage is a process of its own, started as DVC starts it (`python -m modelbuild stage export`). A round is export,
validate with validation=quick and validate with validation=strict, one after the other, so that a ratio is of one
moment; sidecar and optimize run once, before the first. Prints and writes medians of wall and CPU time, the ratios to
export with their spread, and what was measured on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from modelbuild.config.compose import compose
from modelbuild.pipeline.build_folder import write_params
from modelbuild.pipeline.fingerprint import host
from modelbuild.pipeline.project import stage_params
from modelbuild.report import read_report
from modelbuild.resolve import resolve

OVERRIDES = [
    "model=init",
    "model.name=bert-base",
    "model.source.architecture=BertModel",
    "task=feature-extraction",
    "exporter=dynamo",
    "benchmark=off",
]
# What validation may cost, as a multiple of the export's wall time.
LIMITS = {"quick": 1.5, "strict": 4.0}
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one process took: seconds on the clock and on all cores, and the most memory it held."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def run_stage(name: str, folder: Path) -> Cost:
    """Run one stage of the build in `folder` in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "modelbuild", "stage", name], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{name} failed with exit code {process.returncode}; its log is gone with {folder}")
    return Cost(wall_s=wall, cpu_s=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / 1024)


def choose(validation: str, overrides: list[str], folder: Path) -> None:
    """Make `folder` that of a build with this validation, whatever stages have run there."""
    request = compose([*overrides, f"validation={validation}"], folder)
    build = resolve(request.spec, lambda path: path.name)
    write_params(folder, stage_params(build), build.locations())


def one_round(overrides: list[str], folder: Path) -> dict[str, Cost]:
    """Export, and both validations of what was exported before, by name."""
    costs = {"export": run_stage("export", folder)}
    for name in ("sidecar", "optimize"):
        if not (folder / name).exists():
            run_stage(name, folder)
    for kind in LIMITS:
        choose(kind, overrides, folder)
        costs[kind] = run_stage("validate", folder)
        failed = read_report(folder / "validate" / "validation.json").failures()
        if failed:
            raise SystemExit(f"validation={kind} failed: {failed[0].line()}")
    return costs


def measure(rounds: int, overrides: list[str]) -> dict[str, object]:
    """The figures over `rounds` rounds."""
    loads = []
    costs = []
    with tempfile.TemporaryDirectory() as name:
        choose("quick", overrides, Path(name))
        for _ in range(rounds):
            loads.append(round(os.getloadavg()[0], 2))
            costs.append(one_round(overrides, Path(name)))
    return {
        "medians": {stage: medians([cost[stage] for cost in costs]) for stage in costs[0]},
        "ratios_to_export": {
            kind: {"limit": limit} | ratios([(cost[kind].wall_s, cost["export"].wall_s) for cost in costs])
            for kind, limit in LIMITS.items()
        },
        "rounds": rounds,
        "load_average_before_each_round": loads,
        "overrides": overrides,
        "host": host() | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "")},
        "versions": {"python": platform.python_version()} | {library: version(library) for library in LIBRARIES},
    }


def medians(costs: list[Cost]) -> dict[str, float]:
    """The median of each figure."""
    return {key: round(statistics.median(asdict(cost)[key] for cost in costs), 2) for key in asdict(costs[0])}


def ratios(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """The median of the rounds' ratios, and their spread."""
    values = [mine / export for mine, export in pairs]
    return {
        "median": round(statistics.median(values), 2),
        "lowest": round(min(values), 2),
        "highest": round(max(values), 2),
    }


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", default=OVERRIDES)
    chosen = parser.parse_args()
    text = json.dumps(measure(chosen.rounds, chosen.overrides), indent=2)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
