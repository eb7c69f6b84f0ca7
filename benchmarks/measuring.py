"""What a command costs: time, memory and bytes written, of a process and all that it starts (Linux)."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

_EVERY_S = 0.03
_KIB_PER_MIB = 1024
# A process may end between being listed and being read.
_ENDED = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took: seconds on the clock and on all cores, the most memory that its processes held together (of
    all kinds, and anonymous, which no file backs), and what they had written to disk.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    anonymous_mib: float
    written_mib: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory of one process in MiB: now, the most so far, and now in anonymous pages."""

    resident: float
    highest: float
    anonymous: float


def cost_of(command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run `command` in `folder` and say what it cost; what it prints goes into the file `log`.

    Raises SystemExit, with the last line of the log, when the command fails.
    """
    # What an earlier command wrote would otherwise reach the disk during this one.
    os.sync()
    with log.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=stream, stderr=subprocess.STDOUT)
        watch = _Watch(process.pid)
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            wall = time.perf_counter() - started
            written = written_bytes(process.pid)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watch.stop()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with status {process.returncode}: {last_line(log)} (see {log})")
    return Cost(
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=watch.peak_mib,
        anonymous_mib=watch.anonymous_mib,
        written_mib=written / (1 << 20),
    )


def together(costs: Sequence[Cost]) -> Cost:
    """What commands cost that ran one after the other: sums, and of memory the most that any of them held."""
    most = {"peak_mib", "anonymous_mib"}
    sums = {
        item.name: (max if item.name in most else sum)(getattr(cost, item.name) for cost in costs)
        for item in fields(Cost)
    }
    return Cost(**sums)


def last_line(log: Path) -> str:
    """The last line of `log` that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


class _Watch:
    """Looks at the memory of a process and its descendants, again and again, until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.peak_mib = 0.0
        self.anonymous_mib = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._add([memory for pid in tree(self._pid) if (memory := memory_of(pid))])

    def _add(self, found: Sequence[Memory]) -> None:
        # The kernel knows the highest of each process, also between two looks; of all together only a look can tell.
        highest = max((memory.highest for memory in found), default=0.0)
        self.peak_mib = max(self.peak_mib, highest, sum(memory.resident for memory in found))
        self.anonymous_mib = max(self.anonymous_mib, sum(memory.anonymous for memory in found))


def tree(pid: int) -> Iterator[int]:
    """`pid` and all its descendants that are alive."""
    yield pid
    with suppress(*_ENDED):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(*_ENDED):
                for child in (task / "children").read_text(encoding="ascii").split():
                    yield from tree(int(child))


def memory_of(pid: int) -> Memory | None:
    """The memory of a process as the kernel counts it, None where it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except _ENDED:
        return None
    return parse_status(text)


def parse_status(text: str) -> Memory | None:
    """What `/proc/<pid>/status` says of memory, None for a process that has none any more."""
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "VmRSS" not in values:
        return None
    resident, highest, anonymous = (int(values[key].split()[0]) / _KIB_PER_MIB for key in ("VmRSS", "VmHWM", "RssAnon"))
    return Memory(resident=resident, highest=highest, anonymous=anonymous)


def written_bytes(pid: int) -> int:
    """What a process and the children that it has waited for had written to disk; also once it has ended."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("write_bytes"))


def spread(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """The median of `values`, and the lowest and highest, with `digits` significant digits."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values: nothing was measured")
    figures = {"median": statistics.median(ordered), "lowest": ordered[0], "highest": ordered[-1]}
    return {name: float(f"{value:.{digits}g}") for name, value in figures.items()}


def spreads(costs: Sequence[Cost]) -> dict[str, dict[str, float]]:
    """The spread of each figure of `costs`."""
    rows = [asdict(cost) for cost in costs]
    return {name: spread((row[name] for row in rows), digits=4) for name in rows[0]}
