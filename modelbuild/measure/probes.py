"""What the process of a loaded side can be asked. Each probe runs in that process, so torch is imported only there."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelbuild.measure.sides import Arrays, Loaded

Shape = tuple[int, ...]

_GEMM_SIZE = 1536
_GEMM_RUNS = 8
_SCHEDULER = Path("/proc/self/schedstat")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Calls in a row: the latency of each in ms, and how long threads waited for a core, as a share of all that time.

    The share is None where the system does not tell, and above 1 when several threads waited at once.
    """

    latencies_ms: list[float]
    waiting_share: float | None


def run_block(loaded: Loaded, inputs: Arrays, calls: int) -> Block:
    """`calls` calls on the same `inputs`, after one that does not count: what ran before left its own in the caches."""
    loaded.call(inputs)
    waited_ns = _waited_ns()
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        loaded.call(inputs)
        times.append(time.perf_counter_ns() - start)
    waiting = max(0, _waited_ns() - waited_ns) / sum(times) if _SCHEDULER.exists() else None
    return Block(latencies_ms=[value / 1e6 for value in times], waiting_share=waiting)


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """How long a compilation took, in s, or why there is none: one line."""

    compile_s: float | None = None
    problem: str = ""


def compile_for(loaded: Loaded, inputs: Arrays) -> Compilation:
    """Compile a side that was made for it, for the shapes of `inputs` and nothing else: the time of the first call."""
    import torch

    torch.compiler.reset()
    start = time.perf_counter_ns()
    try:
        loaded.call(inputs)
    except Exception as error:  # noqa: BLE001 - whatever it is, there is nothing to measure, and PyTorch itself works
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return Compilation(problem=f"{type(error).__name__}: {said}")
    return Compilation(compile_s=(time.perf_counter_ns() - start) / 1e9)


def _waited_ns() -> int:
    """How long the threads of this process have been ready to run without a core, all together (Linux only, else 0)."""
    waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        # A thread may end between being listed and being read.
        with suppress(FileNotFoundError, ProcessLookupError):
            waited += int(path.read_text(encoding="ascii").split()[1])
    return waited


def peak_memory_mib(loaded: Loaded) -> float:
    """The most memory this process ever had in RAM, its libraries included, in MiB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    # Linux's ru_maxrss would include what the parent had when it started this process; VmHWM does not.
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def count_gflop(loaded: Loaded, inputs: Arrays) -> float:
    """The arithmetic of one call of the PyTorch model in matrix products, attention and convolutions, in GFLOP.

    Counted by torch as the call runs, padding included; other operators count nothing.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # torch knows how to count attention but, as of 2.13, not that this is what its CPU kernel is called.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - it has no other name
    with FlopCounterMode(display=False, custom_mapping={kernel: _attention_flop}) as counter:
        loaded.call(inputs)
    return float(counter.get_total_flops()) / 1e9


def _attention_flop(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """The FLOP of `softmax(query key) value` for shapes `(batch, heads, sequence, size)`."""
    batch, heads, queries, size = query
    return 2 * batch * heads * queries * key[2] * (size + value[3])


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
