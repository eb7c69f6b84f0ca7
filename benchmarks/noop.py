"""Wall time of a build with nothing to do, beside the bare import of the libraries it needs.

    python benchmarks/noop.py [--rounds 11] [--out benchmarks/noop.json] [overrides of the build]

Both are whole processes, started one after the other in each round, so that a ratio is of one moment. The build
is finished first, in a temporary workspace. Prints and writes the medians, the median of the ratios and their spread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

BASELINE = ["-c", "import hydra, dvc.repo, onnxruntime"]
OVERRIDES = ["model=bert-tiny", "validation=quick", "benchmark=off"]


def seconds(arguments: list[str], folder: str) -> float:
    """Wall time of `python` with `arguments`, in seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def measure(rounds: int, overrides: list[str]) -> dict[str, object]:
    """The figures over `rounds` rounds."""
    build = ["-m", "modelbuild", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        seconds(build, folder)
        pairs = [(seconds(build, folder), seconds(BASELINE, folder)) for _ in range(rounds)]
    ratios = [noop / baseline for noop, baseline in pairs]
    return {
        "noop_s": round(statistics.median(noop for noop, _ in pairs), 3),
        "baseline_s": round(statistics.median(baseline for _, baseline in pairs), 3),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_lowest": round(min(ratios), 2),
        "ratio_highest": round(max(ratios), 2),
        "rounds": rounds,
        "overrides": overrides,
        "baseline": BASELINE[1],
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in ("hydra-core", "dvc", "onnxruntime")},
    }


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", default=OVERRIDES)
    chosen = parser.parse_args()
    text = json.dumps(measure(chosen.rounds, chosen.overrides), indent=2)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
