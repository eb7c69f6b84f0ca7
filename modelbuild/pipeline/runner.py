"""One stage in a process of its own, as DVC starts it: `python -m modelbuild stage export`, in the build's folder."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import yaml

from modelbuild.errors import ConfigError, HostError, Interrupted, ModelbuildError
from modelbuild.pipeline import STAGE_INPUTS, journal
from modelbuild.pipeline.build_folder import LOG_FOLDER, PARAMS_FILE, host_error, read_locations
from modelbuild.report import write_metrics, write_report
from modelbuild.stage_spec import SPECS
from modelbuild.stages import REPORTS, STAGES, Stage
from modelbuild.stages.which import module_of
from modelbuild.strict import Strict

METRICS_FILE = "metrics.json"


def run_stage(name: str, folder: Path) -> None:
    """Run stage `name` of the build in `folder`, and publish its output there, whole or not at all.

    Raises the stage's error, after it was written into the journal. What the stage's libraries print goes to a log.
    """
    if not (folder / PARAMS_FILE).is_file():
        raise ConfigError(
            "not the folder of a build", where=str(folder), hint="stages are run by modelbuild and dvc repro"
        )
    started = time.monotonic()
    journal.record(folder, name, "started")
    try:
        with _log_to(folder / LOG_FOLDER / f"{name}.log"), _one_error(name, folder):
            _publish(name, read_spec(name, folder), folder)
    except ModelbuildError as error:
        journal.record(folder, name, "failed", seconds=time.monotonic() - started, error=error)
        raise
    journal.record(folder, name, "finished", seconds=time.monotonic() - started)


def _publish(name: str, spec: Strict, folder: Path) -> None:
    stage = cast(Stage, importlib.import_module(module_of(name, spec)))
    scratch, target = folder / f".{name}.tmp", folder / name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        inputs = {dependency: folder / dependency for dependency in STAGE_INPUTS[name]}
        report = stage.run(spec, inputs | read_locations(folder), scratch)
        if name in REPORTS:
            write_report(report, scratch / REPORTS[name])
        if report.metrics is not None:
            write_metrics(report, scratch / METRICS_FILE)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_spec(name: str, folder: Path) -> Strict:
    """What stage `name` of the build in `folder` depends on."""
    params = yaml.safe_load((folder / PARAMS_FILE).read_text(encoding="utf-8"))
    kind = SPECS[name]
    beside = {"code", "tools"} - kind.model_fields.keys()
    return kind.model_validate({key: params[name][key] for key in params[name].keys() - beside}, strict=False)


@contextmanager
def _one_error(name: str, folder: Path) -> Iterator[None]:
    """Whatever goes wrong becomes one error with an exit code; what nobody foresaw also leaves its traceback in the
    log.
    """
    log = f"{folder / LOG_FOLDER / name}.log"
    try:
        yield
    except ModelbuildError:
        traceback.print_exc()
        raise
    except KeyboardInterrupt as error:
        raise Interrupted(f"{name} was interrupted", hint="finished stages are kept; run it again to go on") from error
    except OSError as error:
        traceback.print_exc()
        raise host_error(error, folder) from error
    except MemoryError as error:
        raise HostError(
            f"{name} ran out of memory", where=log, hint="use a machine with more, or a smaller model"
        ) from error
    except Exception as error:
        traceback.print_exc()
        raise ModelbuildError(
            f"{name} failed: {type(error).__name__}: {error}", where=log, hint="the log has the traceback"
        ) from error


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Send what this process prints, native libraries included, to the file `path`."""
    path.parent.mkdir(exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for stream in (1, 2):
            os.dup2(handle, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, original in zip((1, 2), kept, strict=True):
            os.dup2(original, stream)
            os.close(original)
        os.close(handle)


def require_stage(name: str) -> str:
    """`name`, if it is a stage. Raises ConfigError otherwise."""
    if name not in STAGES:
        raise ConfigError(f"there is no stage '{name}'", hint=f"choose one of {', '.join(STAGES)}")
    return name
