"""Small results of benchmarks, with figures that no machine has, to draw from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import build_cost
import memory_of_export
import numpy as np
import sweep_cost
from measuring import Cost

MACHINE = {
    "processor": "Example 9000", "family": "1/2", "cores": 2, "isa": ["avx2"], "memory_gib": 4.0, "system": "Linux 6.1",
    "OMP_NUM_THREADS": "",
}  # fmt: skip
VERSIONS = {"python": "3.11.0", "torch": "1.0", "onnxruntime": "1.1", "transformers": "1.2"}


def cost(wall_s: float) -> Cost:
    """A cost in which every figure follows from the wall time."""
    return Cost(
        wall_s=wall_s, cpu_s=2 * wall_s, peak_mib=100 * wall_s, anonymous_mib=50 * wall_s, written_mib=10 * wall_s
    )


def build_parts() -> list[dict[str, Any]]:
    """Two rounds in which everyone takes a second more in the second."""
    names = (build_cost.STAGES, build_cost.COMMAND, f"{build_cost.COMMAND}, validation=quick")
    walls = {**dict(zip(names, (4.0, 5.0, 6.0), strict=True)), build_cost.OPTIMUM: 8.0, build_cost.OLIVE: 16.0}
    return [
        {
            "part": f"round {number}: everyone",
            "costs": {name: asdict(cost(wall + number - 1)) for name, wall in walls.items()},
            build_cost.IN_COMMAND: 3.0 + number - 1,
        }
        for number in (1, 2)
    ]


def sweep_part() -> dict[str, Any]:
    """One round of sweeps: an export takes 3 s, and the rest of a build 2 s."""
    alone = {name: {"wall_s": 5.0, "export_s": 3.0} for name in sweep_cost.OPTIMIZATIONS}
    stages = {"export": 1, "optimize": 4}
    walls = {"1": 5.0, "4": 10.0, "16": 28.0}
    return {
        "part": "round 1",
        "alone": alone,
        "sweeps": {number: {"wall_s": wall, "stages_run": stages} for number, wall in walls.items()},
    }


def memory_parts() -> list[dict[str, Any]]:
    """Two models, the larger first."""
    return [
        {
            "part": f"round 1: {size}",
            "title": f"BERT of {size} MB",
            "weights_bytes": size * 10**6,
            "cost": asdict(cost(7.0)),
        }
        for size in (3000, 200)
    ]


def speed_case() -> dict[str, Any]:
    """One shape of one model: PyTorch takes twice as long as a peer, and that 1.25 times as long as we."""
    from artifact_speed import case_of

    from modelbuild.measure.processes import Samples

    jitter = np.linspace(1.0, 1.02, 7)[:, None] * np.ones((1, 3))
    times = {"PyTorch eager": 10 * jitter, "Olive": 5 * jitter, "modelbuild": 4 * jitter}
    return case_of(Samples(latencies_ms=times, waiting_share=0.01), "PyTorch eager", "modelbuild")


def results() -> dict[str, dict[str, Any]]:
    """A result of each benchmark."""
    speed = {
        "title": "BERT-base", "chosen": "transformer",
        "failed": {"Optimum O2": "no kernel"}, "cases": {"1x16": speed_case()},
        "load_ms": {"PyTorch eager": 81.2, "modelbuild": 42.4},
        "off_by": {"left padding": {"Olive": 0.0123, "modelbuild": 3.4e-7}},
    }  # fmt: skip
    accuracy = {"sentences": 200, "worst_cosine": 0.9912, "mean_cosine": 0.9987, "rank_agreement": 0.995}
    int8 = speed | {"linear_layers": {"fp32": 2, "quantized": 70}, "accuracy": accuracy}
    found: dict[str, dict[str, Any]] = {
        "build_cost": build_cost.figures(build_parts()) | {"model": "BERT-base", "weights_mib": 418},
        "artifact_speed": {"runs": 3, "models": {"bert-base": speed, "int8 bert-base": int8}},
        "memory_of_export": memory_of_export.figures(memory_parts()),
        "sweep_cost": sweep_cost.figures([sweep_part()]) | {"model": "model=minilm"},
    }
    on = {"date": "2026-01-02", "rounds": 5, "load_average_before_each_part": [0.1, 0.4], "machine": MACHINE}
    return {name: {"benchmark": name, **on, "versions": VERSIONS, **figures} for name, figures in found.items()}
