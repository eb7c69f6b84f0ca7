"""What the process of a loaded side can be asked. Each probe runs in that process, so torch is imported only there."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelbuild.samples import Limits, limits_of
from modelbuild.sides import Arrays, Loaded

_GEMM_SIZE = 1536
_GEMM_RUNS = 8


@dataclass(frozen=True, kw_only=True)
class Block:
    """Calls in a row: the latency of each in ms, and how long threads waited for a core, as a share of all that time.

    The share is None where the system does not tell, and above 1 when several threads waited at once.
    """

    latencies_ms: list[float]
    waiting_share: float | None


def run_block(loaded: Loaded, inputs: Arrays, calls: int) -> Block:
    """`calls` calls on the same `inputs`, after one that does not count: what ran before filled the caches with its own."""
    loaded.call(inputs)
    waited_ns = _waited_ns()
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        loaded.call(inputs)
        times.append(time.perf_counter_ns() - start)
    waiting = (_waited_ns() - waited_ns) / sum(times) if _SCHEDULER.exists() else None
    return Block(latencies_ms=[value / 1e6 for value in times], waiting_share=waiting)


_SCHEDULER = Path("/proc/self/schedstat")


def _waited_ns() -> int:
    """How long the threads of this process have been ready to run without a core, all together (Linux only, else 0)."""
    return sum(int(path.read_text(encoding="ascii").split()[1]) for path in Path("/proc/self/task").glob("*/schedstat"))


def peak_memory_mib(loaded: Loaded) -> float:
    """The most memory this process ever had in RAM, its libraries included, in MiB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    # Linux's ru_maxrss would include what the parent had when it started this process; VmHWM does not.
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def limits_of_model(loaded: Loaded) -> Limits:
    """What the PyTorch model can take."""
    return limits_of(loaded.module.config)


def count_gflop(loaded: Loaded, inputs: Arrays) -> float:
    """The arithmetic of one call of the PyTorch model in matrix products, attention and convolutions, in GFLOP.

    Counted by torch as the call runs, padding included; other operators count nothing.
    """
    import torch
    from torch.utils import flop_counter

    # torch knows how to count attention but, as of 2.13, not that this is what its CPU kernel is called.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counts = {kernel: lambda query, key, value, *_, **__: flop_counter.sdpa_flop_count(query, key, value)}
    with flop_counter.FlopCounterMode(display=False, custom_mapping=counts) as counter:
        loaded.call(inputs)
    return float(counter.get_total_flops()) / 1e9


def gemm_gflops(loaded: Loaded) -> float:
    """The GFLOP/s of torch's fastest of several large fp32 matrix products, with the threads of the PyTorch side."""
    import torch

    left, right = (torch.from_numpy(np.full((_GEMM_SIZE, _GEMM_SIZE), 0.5, dtype=np.float32)) for _ in range(2))
    product = torch.empty_like(left)
    times = []
    for _ in range(_GEMM_RUNS):
        start = time.perf_counter_ns()
        torch.matmul(left, right, out=product)
        times.append(time.perf_counter_ns() - start)
    return 2 * _GEMM_SIZE**3 / min(times)
