"""What `modelbuild.runtime` costs: its import beside that of numpy and onnxruntime, and a run beside the raw session's.

    python benchmarks/runtime_cost.py [--rounds 11] [--out benchmarks/runtime_cost.json]

A round is a new process for each import, one after the other in an order drawn anew, and one process in which a tiny
BERT of three inputs is run by `Model.run` and by its ONNX Runtime session in turn, on the same arrays: the overhead is
the difference of the medians. Everything that a model does on each run is on: inputs and ids are checked, runs counted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from makers import our_environment
from measuring import spread
from results import plan, run_parts, write

from artifacts import our_package

BASELINE, OURS = "import numpy, onnxruntime", "import modelbuild.runtime"
OVERRIDES = ("model=bert-tiny", "validation=quick", "benchmark=off")
CALLS, WARMUP = 3000, 200


def imported(code: str) -> float:
    """Wall time of a Python process that runs `code`, in seconds."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code], env=our_environment(), check=True)
    return time.perf_counter() - began


def overhead(package: Path) -> dict[str, float]:
    """The medians of a run by the session and by the model, in microseconds."""
    import onnxruntime as ort

    from modelbuild.runtime import load
    from modelbuild.runtime.session import SessionSettings, session_options

    model = load(package)
    (graph,) = model.manifest.graphs.values()
    options = session_options(SessionSettings.from_mapping(model.manifest.session))
    session = ort.InferenceSession(str(package / graph.file), options, providers=["CPUExecutionProvider"])
    names = list(graph.signature.output_names())
    inputs = {name: np.ones((1, 4), np.int64) for name in graph.signature.input_names()}
    times: dict[str, list[float]] = {"session": [], "run": []}
    for _ in range(CALLS + WARMUP):
        began = time.perf_counter()
        session.run(names, inputs)
        between = time.perf_counter()
        model.run(inputs)
        times["run"].append(time.perf_counter() - between)
        times["session"].append(between - began)
    return {f"{name}_us": 1e6 * statistics.median(values[WARMUP:]) for name, values in times.items()}


def one_round(part: str, package: Path) -> dict[str, Any]:
    """The imports and the runs of one round."""
    order = np.random.default_rng(int(part.split()[1])).permutation([BASELINE, OURS])
    imports = {str(code): imported(str(code)) for code in order}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(overhead, package).result()
    return {"import_s": imports, **found, "overhead_us": found["run_us"] - found["session_us"]}


def figures(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians and spreads: of the imports, of the ratio of each round, and of the overhead."""
    return {
        "import_s": {code: spread(part["import_s"][code] for part in parts) for code in (BASELINE, OURS)},
        "import_ratio": spread(part["import_s"][OURS] / part["import_s"][BASELINE] for part in parts),
        **{name: spread(part[name] for part in parts) for name in ("session_us", "run_us", "overhead_us")},
    }


def main() -> None:
    """Measure, print, and write what was measured."""
    made = plan("runtime_cost", __doc__, rounds=11, options={})
    package = our_package("bert-tiny", OVERRIDES, made.work)
    imported(OURS)  # compiles what was never imported
    names = [f"round {number}" for number in range(1, made.rounds + 1)]
    settings = {"calls": CALLS, "overrides": list(OVERRIDES)}
    parts = run_parts(made, settings, names, lambda part: one_round(part, package))
    write(made, parts, figures(parts), **settings)


if __name__ == "__main__":
    main()
