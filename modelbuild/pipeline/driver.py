"""One build, from a request to a package: decide what is to do, have a worker do it, say what came of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from modelbuild.digest_cache import DigestCache
from modelbuild.errors import HostError, Interrupted, ValidationError
from modelbuild.locks import hold
from modelbuild.pipeline import journal
from modelbuild.pipeline.project import Workspace, stage_params, write_adhoc_project
from modelbuild.pipeline.publish import publish
from modelbuild.pipeline.state import StageState, build_states, open_project
from modelbuild.preflight import require_host
from modelbuild.registry import Entry, Registration
from modelbuild.resolve import ResolvedBuild, resolve
from modelbuild.spec import BuildSpec

_GRACE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished build: its folder, its package, the stages that a process was started for, and the entry of a registry
    that it is published as, if it is.
    """

    build_id: str
    folder: Path
    package: Path
    stages_run: tuple[str, ...]
    stages_restored: tuple[str, ...]
    entry: Entry | None = None


def resolve_here(spec: BuildSpec, workspace: Workspace) -> ResolvedBuild:
    """The build with its task and the content of its model settled, digests remembered in the workspace."""
    return resolve(spec, DigestCache(workspace.private / "digests.json").digest)


def build(
    spec: BuildSpec, workspace: Workspace, *, out: Path | None = None, registration: Registration | None = None
) -> Outcome:
    """Build the package of `spec`, or find it built; copy it to `out`, and publish it as `registration` says. Raises
    the error of whatever cannot be done.
    """
    require_host(spec.providers)
    workspace.prepare()
    resolved = resolve_here(spec, workspace)
    build_id = resolved.build_id()
    folder = workspace.adhoc / build_id
    with (
        hold(workspace.busy_lock(), shared=True) as busy,
        hold(workspace.build_lock(build_id), on_wait=_waiting(build_id)) as lock,
    ):
        params = stage_params(resolved)
        write_adhoc_project(workspace, folder, params, resolved.locations())
        before = len(journal.read_journal(folder))
        if any(state.status != "current" for state in build_states(open_project(folder), params)):
            print(f"{build_id}", file=sys.stderr, flush=True)
            try:
                _work(folder, workspace.locks, (busy, lock))
            except ValidationError as error:
                error.found_in(folder / "validate" / "validation.json")
                raise
        if out:
            publish(folder / "package", out)
        entry = registration.publish(folder / "package") if registration else None
    events = journal.read_journal(folder)[before:]
    return Outcome(
        build_id=build_id,
        folder=folder,
        package=out or folder / "package",
        stages_run=tuple(journal.stages_run(events)),
        stages_restored=tuple(event.stage for event in events if event.what == "restored"),
        entry=entry,
    )


def plan(spec: BuildSpec, workspace: Workspace) -> tuple[ResolvedBuild, dict[str, dict[str, Any]], list[StageState]]:
    """What `build` would do, stage by stage, and why it can tell: the resolved build and its parameters. Runs no
    stage.
    """
    workspace.prepare()
    resolved = resolve_here(spec, workspace)
    params = stage_params(resolved)
    folder = workspace.adhoc / resolved.build_id()
    if folder.exists():
        with hold(workspace.build_lock(resolved.build_id()), on_wait=_waiting(resolved.build_id())):
            write_adhoc_project(workspace, folder, params, resolved.locations())
            return resolved, params, build_states(open_project(folder), params)
    with workspace.scratch() as scratch:
        write_adhoc_project(workspace, scratch, params, resolved.locations())
        return resolved, params, build_states(open_project(scratch), params)


def _waiting(build_id: str) -> Callable[[str], None]:
    return lambda holder: print(f"waiting for {holder}, which is building {build_id}", file=sys.stderr, flush=True)


def _work(folder: Path, locks: Path, held: tuple[int, ...]) -> None:
    """Run the worker, with the locks that are `held` in its hands too, and raise what it failed with."""
    command = [sys.executable, "-m", "modelbuild.pipeline.worker", str(folder), str(locks)]
    with _terminable(), subprocess.Popen(command, pass_fds=held, stdin=subprocess.DEVNULL) as worker:
        try:
            code = worker.wait()
        except BaseException:
            _stop(worker)
            raise
    if code == Interrupted.exit_code or code == -signal.SIGINT:
        raise Interrupted("interrupted", where=folder.name, hint="finished stages are kept; run it again to go on")
    if code:
        failed = next(
            (e for e in reversed(journal.read_journal(folder)) if e.stage == "build" and e.pid == worker.pid), None
        )
        raise (
            failed.error()
            if failed
            else HostError(f"the worker ended with {code}", where=str(folder), hint="run it again to go on")
        )


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Give the worker time to end by itself, for Ctrl-C reaches it too; then end it, and with it its stage."""
    try:
        worker.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        worker.terminate()
        worker.wait()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that it takes its worker with it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
