"""The process that brings a build up to date, stage by stage: `python -m modelbuild.pipeline.worker FOLDER LOCKS`.

It holds the build's lock, handed down by the command that started it, so that it finishes its work even if that
command is killed. Each stage is done by one process at a time for each run-cache key, whichever build asks for it;
the others wait and then restore it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from dvc.exceptions import DvcException, ReproductionError
from dvc.repo import Repo

from modelbuild.errors import HostError, Interrupted, ModelbuildError, PackageError, unforeseen
from modelbuild.locks import hold
from modelbuild.pipeline import journal
from modelbuild.pipeline.build_folder import LOG_FOLDER, host_error
from modelbuild.pipeline.fingerprint import entry_modules
from modelbuild.pipeline.fork_requests import Wanted
from modelbuild.pipeline.runner import read_spec
from modelbuild.pipeline.state import StageState, build_states, cached_objects, open_project, project_stages
from modelbuild.pipeline.warm import warm
from modelbuild.report import read_report, require_passed
from modelbuild.stage_spec import BenchmarkSpec, ExportSpec, ModuleFiles, OptimizeSpec, ValidateSpec
from modelbuild.stages import STAGES
from modelbuild.stages.which import is_off
from modelbuild.strict import Strict

# What stages import when they are at it.
_MODELS, _TRACING = "modelbuild.reference:import_models", "modelbuild.capture.translate:import_tracing"


def bring_up_to_date(folder: Path, locks: Path) -> None:
    """Run or restore every stage of the build in `folder` that is not current. Raises the error of the stage that
    failed.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.chdir(folder)  # DVC takes the names of targets from here
    with warm(_missing(folder)) as variables:
        os.environ.update(variables)
        _every_stage(folder, locks)


def _missing(folder: Path) -> dict[str, Wanted]:
    """What the stages that nobody has run import."""
    names = [state.stage for state in build_states(open_project(folder)) if state.status not in ("current", "cached")]
    return {name: wanted(name, read_spec(name, folder)) for name in names}


def wanted(stage: str, spec: Strict) -> Wanted:
    """What `stage` imports for `spec`: the modules that do its work, and what these import later."""
    modules = entry_modules(stage, spec)
    if is_off(spec):
        return Wanted(modules=modules)
    exporter = spec.exporter.kind if isinstance(spec, ExportSpec) else ""
    # A module of the user's own finds transformers as it is, and a graph from a file has none.
    if isinstance(spec, ExportSpec | ValidateSpec) and not isinstance(spec.model.source, ModuleFiles):
        modules = (*([_MODELS] if exporter != "file" else []), *modules, *([_TRACING] if exporter == "dynamo" else []))
    timed = isinstance(spec, BenchmarkSpec) or (isinstance(spec, OptimizeSpec) and spec.timing is not None)
    return Wanted(modules=modules, measures=timed)


def _every_stage(folder: Path, locks: Path) -> None:
    for name in STAGES:
        state = _state_of(open_project(folder), name)
        if state.status != "current":
            with hold(locks / f"stage-{state.key}", on_wait=_waiting(name)):
                _do(open_project(folder), folder, name)
        if name == "validate":
            require_passed(read_report(folder / "validate" / "validation.json"))


def _state_of(repo: Repo, name: str) -> StageState:
    return next(state for state in build_states(repo) if state.stage == name)


def _do(repo: Repo, folder: Path, name: str) -> None:
    """Have DVC run the stage or restore it. What it restores is checked: DVC itself does not look."""
    state = _state_of(repo, name)
    if state.status == "current":
        return
    _say(name, "restoring" if state.status == "cached" else "running")
    before = len(journal.read_journal(folder))
    _reproduce(repo, folder, name)
    if name in journal.stages_run(journal.read_journal(folder)[before:]):
        return
    if _evict_corrupt(repo, folder, name):
        _say(name, "the cache was corrupt; running it again")
        _reproduce(repo, folder, name, force=True)
    else:
        journal.record(folder, name, "restored")


def _reproduce(repo: Repo, folder: Path, name: str, *, force: bool = False) -> None:
    before = len(journal.read_journal(folder))
    try:
        repo.reproduce(targets=[name], single_item=True, force=force)
    except ReproductionError as error:
        last = next(iter(journal.read_journal(folder)[before:][-1:]), None)
        if last and last.what == "failed":
            raise last.error() from error
        if isinstance(error.__cause__, OSError):
            raise host_error(error.__cause__, folder) from error
        if last is None or last.what != "started":
            raise PackageError(f"DVC: {error.__cause__ or error}", where=name, hint="run it again") from error
        raise HostError(
            f"{name} was killed before it could say why",
            where=str(folder / LOG_FOLDER / f"{name}.log"),
            hint="often the machine was out of memory; run it again to go on",
        ) from error
    except DvcException as error:
        raise PackageError(
            f"DVC: {error}", where=str(folder), hint="run it again; 'dvc status' there says more"
        ) from error


def _evict_corrupt(repo: Repo, folder: Path, name: str) -> bool:
    """Compare what was restored with its digests; remove what is wrong from cache and folder. True if anything was."""
    stage = project_stages(repo)[name]
    corrupt = False
    for out in stage.outs:
        entry = {"path": out.def_path, "md5": out.hash_info.value}
        for cached, path in cached_objects(repo, entry):
            expected = Path(cached).parent.name + Path(cached).name
            if path and _md5(folder / path) != expected:
                corrupt = True
                Path(cached).unlink(missing_ok=True)
                (folder / path).unlink(missing_ok=True)
    return corrupt


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _waiting(name: str) -> Callable[[str], None]:
    return lambda holder: _say(name, f"waiting for {holder}")


def _say(name: str, what: str) -> None:
    print(f"  {name:<10} {what}", file=sys.stderr, flush=True)


def _keep_the_terminal_for_ourselves(log: Path) -> None:
    """What DVC and the stages print goes to a log: their errors come back through the journal, and are said once."""
    log.parent.mkdir(exist_ok=True)
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)


def main() -> int:
    """Do it, and leave the error in the journal for the command that asked."""
    folder, locks = Path(sys.argv[1]), Path(sys.argv[2])
    _keep_the_terminal_for_ourselves(folder / LOG_FOLDER / "worker.log")
    try:
        bring_up_to_date(folder, locks)
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except Exception as error:  # noqa: BLE001 - it crosses to the command as an event of the journal
        traceback.print_exc(file=sys.__stderr__)
        known = error if isinstance(error, ModelbuildError) else unforeseen(error)
        journal.record(folder, "build", "failed", error=known)
        return known.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
