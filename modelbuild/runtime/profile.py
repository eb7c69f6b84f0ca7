"""The profile that ONNX Runtime writes of a session's runs: which kernel ran where, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Their time is that of the nodes inside them, which are in the profile too.
_CONTAINERS = frozenset({"If", "Loop", "Scan"})
COPIES = frozenset({"MemcpyFromHost", "MemcpyToHost"})


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One run of one node, from a profile. `reads_floats`: an input is a tensor of floats, of more than one element."""

    node: str
    operator: str
    provider: str
    started_us: float
    duration_us: float
    reads_floats: bool


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What ran: kernels, and when each run of the whole model began and how long it took, in microseconds."""

    kernels: tuple[Kernel, ...]
    runs: tuple[tuple[float, float], ...]

    def since(self, run: int) -> Profile:
        """The part from run number `run` on."""
        start = self.runs[run][0]
        return Profile(
            kernels=tuple(kernel for kernel in self.kernels if kernel.started_us >= start), runs=self.runs[run:]
        )


def read_profile(events: Sequence[Mapping[str, Any]]) -> Profile:
    """What ran, from the events of a profile that ONNX Runtime wrote."""
    nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    return Profile(
        kernels=tuple(
            Kernel(
                node=event["name"].removesuffix("_kernel_time"),
                operator=event["args"]["op_name"],
                provider=event["args"]["provider"],
                started_us=event["ts"],
                duration_us=event["dur"],
                reads_floats=_reads_floats(event["args"].get("input_type_shape", ())),
            )
            for event in nodes
        ),
        runs=tuple((event["ts"], event["dur"]) for event in events if event["name"] == "model_run"),
    )


def _reads_floats(types: Sequence[Mapping[str, Sequence[int]]]) -> bool:
    """Of more than one element: a single float, such as the scale of an attention, is computed beside the shapes."""
    shapes = [shape for item in types for name, shape in item.items() if name.startswith(("float", "double", "bfloat"))]
    return any(math.prod(shape) > 1 for shape in shapes)


def count_copies(profile: Profile) -> int:
    """The number of nodes that copy between the memories of two devices, however often they ran."""
    return len({kernel.node for kernel in profile.kernels if kernel.operator in COPIES})


def time_off(profile: Profile, asked: Sequence[str]) -> float:
    """The share of the runs' time that went to kernels on other providers than those `asked` for.

    The whole is the time of the runs and not of their kernels, because a kernel of a GPU is only launched in its time;
    where operators run in parallel, kernels may take longer than the runs, and then they are the whole.
    """
    kernels = [kernel for kernel in profile.kernels if kernel.operator not in _CONTAINERS]
    off = sum(kernel.duration_us for kernel in kernels if kernel.provider not in asked)
    whole = max(sum(duration for _, duration in profile.runs), sum(kernel.duration_us for kernel in kernels))
    return off / whole if whole else 0.0
