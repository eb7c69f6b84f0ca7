"""Metrics for Prometheus, through its client library: `pip install 'modelbuild[metrics]'`.

from prometheus_client import REGISTRY
REGISTRY.register(ModelCollector(model))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from modelbuild.errors import HostError
from modelbuild.runtime.cache import ModelCache, series
from modelbuild.runtime.metrics import BUCKETS_S, merged
from modelbuild.runtime.model import Model

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise HostError("prometheus_client is not installed", hint="pip install 'modelbuild[metrics]'") from error

_LABELS = ["model", "digest", "graph"]
_DIGITS = 12


class ModelCollector(Collector):
    """What a model, several models or a cache counted, each time Prometheus asks. Nothing is counted twice.

    `modelbuild_runs_total`, `modelbuild_errors_total` (by `error`), `modelbuild_slow_runs_total`,
    `modelbuild_running` and the histogram `modelbuild_run_seconds`, by `model`, `digest` (its first 12 digits: two
    versions are two series) and `graph`; a package that is open twice is counted together. Of a cache, also
    `modelbuild_cache_models`, `modelbuild_cache_size_bytes` and its hits, loads, failures and evictions.
    """

    def __init__(self, source: Model | Iterable[Model] | ModelCache) -> None:
        self._cache = source if isinstance(source, ModelCache) else None
        models = [source] if isinstance(source, Model) else [] if isinstance(source, ModelCache) else source
        self._kept = tuple(dict.fromkeys(models))
        if not all(isinstance(model, Model) for model in self._kept):
            raise TypeError("a model, a list of models or a cache of them is wanted")

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        runs = CounterMetricFamily("modelbuild_runs", "Runs that came to an end.", labels=_LABELS)
        errors = CounterMetricFamily("modelbuild_errors", "Runs that failed.", labels=[*_LABELS, "error"])
        slow = CounterMetricFamily("modelbuild_slow_runs", "Runs over the limit.", labels=_LABELS)
        running = GaugeMetricFamily("modelbuild_running", "Runs that are not at their end.", labels=_LABELS)
        seconds = HistogramMetricFamily("modelbuild_run_seconds", "How long runs took.", labels=_LABELS)
        counted = self._cache.metrics() if self._cache else merged(map(series, self._kept))
        for (name, digest, graph), found in counted.items():
            labels = name, digest[:_DIGITS], graph
            runs.add_metric(labels, found.runs)
            slow.add_metric(labels, found.slow)
            running.add_metric(labels, found.running)
            seconds.add_metric(labels, _cumulative(found.buckets), found.seconds)
            for name, count in found.errors.items():
                errors.add_metric([*labels, name], count)
        yield from (runs, errors, slow, running, seconds)
        if self._cache:
            yield from _of_cache(self._cache)


def _cumulative(buckets: Iterable[int]) -> list[tuple[str, float]]:
    total, found = 0, []
    for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], buckets, strict=True):
        total += count
        found.append((bound, float(total)))
    return found


def _of_cache(cache: ModelCache) -> Iterator[Metric]:
    status = cache.status()
    gauges: dict[str, Any] = {"models": "Models that are open.", "size_bytes": "Bytes of their files."}
    for name, text in gauges.items():
        yield GaugeMetricFamily(f"modelbuild_cache_{name}", text, value=getattr(status, name))
    counters = {"hits": "Models that were open.", "loads": "Models that were to be loaded.",
                "failures": "Models that could not be.", "evictions": "Models that had to go."}  # fmt: skip
    for name, text in counters.items():
        yield CounterMetricFamily(f"modelbuild_cache_{name}", text, value=getattr(status, name))
