"""What Prometheus is told is what was counted."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modelbuild.errors import HostError, InputError
from modelbuild.manifest import read_manifest, write_manifest
from modelbuild.runtime import ModelCache, load
from modelbuild.runtime.metrics import BUCKETS_S
from modelbuild.runtime.prometheus import ModelCollector

INPUTS = {"input_ids": [[4, 5]], "attention_mask": [[1, 1]]}


def samples(collector: ModelCollector) -> dict[tuple[str, ...], float]:
    """The values as a server reads them, by name and what they are of besides model and graph."""
    registry = CollectorRegistry()
    registry.register(collector)
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            more = [value for key, value in sample.labels.items() if key not in ("model", "digest", "graph")]
            found[(sample.name, *more)] = sample.value
    return found


def test_a_model_is_told(package: Path) -> None:
    model = load(package, slow_s=0.0)
    for _ in range(3):
        model.run(INPUTS)
    with pytest.raises(InputError):
        model.run({})
    found = samples(ModelCollector(model))
    assert found["modelbuild_runs_total",] == 4
    assert found["modelbuild_errors_total", "InputError"] == 1
    assert found["modelbuild_slow_runs_total",] == 3
    assert found["modelbuild_running",] == 0
    assert found["modelbuild_run_seconds_count",] == 3
    assert found["modelbuild_run_seconds_bucket", "+Inf"] == 3
    assert found["modelbuild_run_seconds_sum",] == pytest.approx(model.metrics["model"].seconds)
    buckets = [found["modelbuild_run_seconds_bucket", str(bound)] for bound in BUCKETS_S]
    assert buckets == sorted(buckets)


def test_a_cache_and_its_models_are_told(package: Path) -> None:
    with ModelCache(max_models=2) as cache:
        for _ in range(2):
            with cache.use(package) as model:
                model.run(INPUTS)
        found = samples(ModelCollector(cache))
    assert found["modelbuild_runs_total",] == 2
    assert (found["modelbuild_cache_models",], found["modelbuild_cache_loads_total",]) == (1, 1)
    assert (found["modelbuild_cache_hits_total",], found["modelbuild_cache_evictions_total",]) == (1, 0)
    assert found["modelbuild_cache_size_bytes",] > 0


def test_two_versions_are_two_series_and_what_is_open_twice_is_one(package: Path, tmp_path: Path) -> None:
    other = shutil.copytree(package, tmp_path / "other")
    manifest = read_manifest(other)
    write_manifest(replace(manifest, task="fill-mask"), other)
    models = [load(package), load(package, verify=False), load(other)]
    for model in models:
        model.run(INPUTS)
    with pytest.raises(InputError):
        models[0].run({})
    registry = CollectorRegistry()
    registry.register(ModelCollector(models))
    lines = generate_latest(registry).decode().splitlines()
    runs = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("modelbuild_runs_total")
    }
    series = 'modelbuild_runs_total{{digest="{}",graph="model",model="tiny"}}'
    assert runs == {series.format(models[0].digest[:12]): 3, series.format(models[2].digest[:12]): 1}
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    monkeypatch.delitem(sys.modules, "modelbuild.runtime.prometheus")
    with pytest.raises(HostError, match=r"pip install 'modelbuild\[metrics\]'"):
        import modelbuild.runtime.prometheus  # noqa: F401
