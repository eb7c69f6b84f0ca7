"""How long a package takes on this machine, by the inputs that it carries."""

from __future__ import annotations

import platform
import time
from typing import Any

import numpy as np
import onnxruntime as ort

from modelbuild.runtime.cores import processor, usable_cores
from modelbuild.runtime.model import Model
from modelbuild.runtime.selfcheck import read_golden

_WARMUP = 5


def golden_latency(model: Model, *, seconds: float = 2.0, runs: int = 200) -> dict[str, Any]:
    """The latency of each graph of `model` for its golden inputs, which are the same everywhere, in milliseconds; and
    the machine that it holds for.

    Each graph is run until it was run `runs` times or, after five at least, for so many `seconds`.
    """
    golden = read_golden(model.folder, model.manifest.graphs)
    cases = {}
    for graph, inputs in golden.inputs.items():
        for _ in range(_WARMUP):
            model.run(inputs, graph=graph)
        times: list[float] = []
        while len(times) < runs and (len(times) < _WARMUP or sum(times) < seconds):
            began = time.perf_counter()
            model.run(inputs, graph=graph)
            times.append(time.perf_counter() - began)
        p50, p90, p99 = (1000 * float(value) for value in np.percentile(times, (50, 90, 99)))
        cases[graph] = {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "runs": len(times)}
    return {"host": host(), "golden": cases}


def host() -> dict[str, str]:
    """What the figures hold for: the machine, how much of it this process may use, and the runtime."""
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "cores": str(usable_cores()),
        "onnxruntime": ort.__version__,
    }
