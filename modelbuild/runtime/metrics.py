"""What a loaded model counts: runs, errors by type, latencies, and those that took too long."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Upper bounds of the latency histogram, in seconds; what is above the last counts in one more bucket.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The name of a package, its digest and a graph.
Series = tuple[str, str, str]
LOGGER = logging.getLogger("modelbuild.runtime")


@dataclass(frozen=True, kw_only=True)
class GraphMetrics:
    """What was counted of one graph until now.

    `runs` came to an end, well or not; `errors` are how many of them did not, by the class of the error. `buckets` has
    the runs that did by their time: one number for each of BUCKETS_S, and one for what took longer. `slow` runs took
    longer than the limit, and `running` are not at their end.
    """

    runs: int
    errors: Mapping[str, int]
    buckets: tuple[int, ...]
    seconds: float
    slow: int
    running: int

    def __add__(self, other: GraphMetrics) -> GraphMetrics:
        """What both counted."""
        return GraphMetrics(
            runs=self.runs + other.runs,
            errors=Counter(self.errors) + Counter(other.errors),
            buckets=tuple(map(sum, zip(self.buckets, other.buckets, strict=True))),
            seconds=self.seconds + other.seconds,
            slow=self.slow + other.slow,
            running=self.running + other.running,
        )


def merged(counted: Iterable[Mapping[Series, GraphMetrics]]) -> dict[Series, GraphMetrics]:
    """All of it together: a package may be open more than once."""
    found: dict[Series, GraphMetrics] = {}
    for part in counted:
        for key, metrics in part.items():
            found[key] = found[key] + metrics if key in found else metrics
    return found


class Metrics:
    """Counters of the graphs of a model, for all threads. `slow_s` is the limit above which a run is warned of."""

    def __init__(self, model: str, graphs: Iterable[str], *, slow_s: float | None = None) -> None:
        self._model = model
        self._slow_s = slow_s if slow_s is not None else float("inf")
        self._counters = {graph: _Counter() for graph in graphs}

    def began(self, graph: str) -> None:
        """A run begins."""
        self._counters[graph].begin()

    def ended(self, graph: str, seconds: float) -> None:
        """A run came to its end well, after so many seconds."""
        slow = seconds > self._slow_s
        self._counters[graph].end(seconds, slow=slow)
        if slow:
            LOGGER.warning("%s: %s took %.3g s, more than %.3g s", self._model, graph, seconds, self._slow_s)

    def failed(self, graph: str, error: BaseException) -> None:
        """A run ended with an error."""
        self._counters[graph].fail(type(error).__name__)

    def snapshot(self) -> dict[str, GraphMetrics]:
        """What was counted until now, by graph."""
        return {graph: counter.snapshot() for graph, counter in self._counters.items()}


class _Counter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._errors: Counter[str] = Counter()
        self._seconds = 0.0
        self._slow = 0
        self._running = 0

    def begin(self) -> None:
        with self._lock:
            self._running += 1

    def end(self, seconds: float, *, slow: bool) -> None:
        bucket = bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._running -= 1
            self._buckets[bucket] += 1
            self._seconds += seconds
            self._slow += slow

    def fail(self, name: str) -> None:
        with self._lock:
            self._running -= 1
            self._errors[name] += 1

    def snapshot(self) -> GraphMetrics:
        with self._lock:
            return GraphMetrics(
                runs=sum(self._buckets) + self._errors.total(),
                errors=dict(self._errors),
                buckets=tuple(self._buckets),
                seconds=self._seconds,
                slow=self._slow,
                running=self._running,
            )
