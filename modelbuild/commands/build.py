"""`python -m modelbuild [-m] [overrides]`: build a package, or all packages of a sweep."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from modelbuild.config.compose import DictConfig, compose, compose_sweep, job_of_sweep, request_of, run_hydra
from modelbuild.config.overrides import examine
from modelbuild.digest import write_json
from modelbuild.errors import ModelbuildError, SweepError, ValidationError, unforeseen
from modelbuild.pipeline.driver import build
from modelbuild.pipeline.project import Workspace
from modelbuild.render.terminal import JobResult, print_build, print_checks, print_sweep
from modelbuild.report import read_report

_MULTIRUN = ("-m", "--multirun")
# Hydra sets it for every job, on whatever launcher: the folder, seen from the workspace, that takes the results.
_RESULTS = "MODELBUILD_SWEEP_RESULTS"
_COMPLETION = ("--shell-completion", "-sc")
_NO_RUN = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version")


def run(words: list[str]) -> int:
    """Build what the overrides in `words` ask for; flags are Hydra's. Returns 0, or raises what went wrong."""
    workspace = Path.cwd()
    if any(word in _COMPLETION for word in words):
        return _single(words, workspace)  # what follows is said to the shell, and is no override
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    flags = [word for word in words if word not in overrides]
    prepared, problems = examine(overrides, workspace)
    if problems:
        compose(overrides, workspace)  # which raises them, with whatever else is wrong
    arguments = [*flags, *prepared]
    if any(flag in _MULTIRUN for flag in flags) and not any(flag.split("=")[0] in _NO_RUN for flag in flags):
        return _sweep(arguments, overrides, workspace)
    return _single(arguments, workspace)


def _single(arguments: list[str], workspace: Path) -> int:
    failures: list[Exception] = []

    def once(config: DictConfig) -> None:
        try:
            request = request_of(config, workspace)
            print_build(build(request.spec, Workspace(workspace), out=request.out, registration=request.registration))
        except ValidationError as error:
            if error.report:
                print_checks(read_report(error.report))
            failures.append(error)
        except Exception as error:  # noqa: BLE001 - raised below; Hydra would print a heading of its own
            failures.append(error)

    run_hydra(arguments, once)
    if failures:
        raise failures[0]
    return 0


def _sweep(arguments: list[str], overrides: list[str], workspace: Path) -> int:
    """Run a sweep: nothing starts before every job is known to compose, and every job ends in one table."""
    ours = not any(override.startswith("hydra/sweeper") for override in overrides)
    jobs = len(compose_sweep(overrides, workspace)) if ours else 0
    folder = Path("artifacts", ".sweeps", f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    run_hydra([*arguments, f"+hydra.job.env_set.{_RESULTS}={folder}"], sweep_job)
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.json")]
    results = sorted((JobResult(**json.loads(text)) for text in texts), key=lambda result: result.number)
    print_sweep(results)
    failed = [str(result.number) for result in results if result.exit_code]
    failed += ["no result"] * max(0, jobs - len(results))
    if failed or not results:
        raise SweepError(
            f"{len(failed)} of {max(jobs, len(results))} jobs failed",
            where=", ".join(failed),
            hint="run it again: what is done stays done",
        )
    return 0


def sweep_job(config: DictConfig) -> None:
    """One job of a sweep, maybe in another process: build, and write down what came of it, for the table."""
    number, overrides = job_of_sweep()
    result = _result(config, Path.cwd(), number, overrides)
    folder = Path(os.environ[_RESULTS])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{number}.json", vars(result))


def _result(config: DictConfig, workspace: Path, number: int, overrides: str) -> JobResult:
    print(f"[{number}] {overrides}", file=sys.stderr, flush=True)
    try:
        request = request_of(config, workspace)
        outcome = build(request.spec, Workspace(workspace), out=request.out, registration=request.registration)
    except Exception as error:  # noqa: BLE001 - the other jobs go on
        known = error if isinstance(error, ModelbuildError) else unforeseen(error)
        print(*known.lines(), sep="\n", file=sys.stderr, flush=True)
        return JobResult(
            number=number, overrides=overrides, exit_code=known.exit_code, package="", error=known.lines()[0]
        )
    return JobResult(number=number, overrides=overrides, exit_code=0, package=str(outcome.package), error="")
