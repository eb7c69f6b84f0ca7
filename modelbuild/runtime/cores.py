"""How many cores this process may use, by its affinity and by the CPU quota of the cgroups that it is in; and whose."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_PROCESSORS = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """The number of cores this process may use: its affinity, and no more than the CPU quota of its cgroup and of those
    around it, of version 1 or 2, at least 1.

    ONNX Runtime itself counts the cores of the host and ignores the quota (microsoft/onnxruntime#29510).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders() for quota in _quotas(folder)]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def instruction_set() -> str:
    """The kind of machine (`x86_64`), and `avx512f` where it has that: ONNX Runtime then keeps the weights of
    convolutions in blocks of 16, and else of 8 (`MlasNchwcGetBlockSize`).
    """
    flags = next((line for line in _text(_PROCESSORS).splitlines() if line.startswith("flags")), "").split()
    return f"{platform.machine()} avx512f" if "avx512f" in flags else platform.machine()


def processor() -> str:
    """The processor's model as Linux names it, and what Python knows elsewhere."""
    lines = (line.partition(":") for line in _text(_PROCESSORS).splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "model name"), platform.processor())


def _folders() -> Iterator[Path]:
    """The folders of the cgroups that may hold a CPU quota for this process, each with those around it.

    Inside a container the path may be one of the host that is not there; what is mounted is then the container's own.
    """
    yield _CGROUPS
    for line in _text(_MEMBERSHIP).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for mount in (_CGROUPS / controllers, _CGROUPS / "cpu") if controllers else (_CGROUPS, _CGROUPS / "unified"):
            # A process outside of the namespace's root has a path that begins with `..`.
            yield from (mount / level for level in (inside, *inside.parents) if ".." not in level.parts)


def _quotas(folder: Path) -> list[float]:
    """What the files of either version say."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    older = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return [cores for cores in (_cores(quota, period), _cores(*older)) if cores is not None]


def _cores(quota: str, period: str) -> float | None:
    """A quota of µs in each period of µs, in cores. None for `max` and -1, which say that there is none."""
    known = quota.strip().isdecimal() and period.strip().isdecimal() and int(period)
    return int(quota) / int(period) if known else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
