"""The libraries of custom operators of a build: looked at before any work, and known by their content from then on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, HostError, ModelbuildError, PackageError, Problem, by_code
from modelbuild.own_process import command, environment
from modelbuild.spec import Session
from modelbuild.stage_spec import LibraryFile

FOLDER = "custom_ops"
_TRIAL = "modelbuild.runtime.trial"
_LOADED_WITHIN_S = 60


def location(path: str) -> str:
    """What a library is called among the files of a build, and where it is in a package: `custom_ops/libmine.so`."""
    return f"{FOLDER}/{Path(path).name}"


def locate_libraries(session: Session, digest: Callable[[Path], str]) -> tuple[LibraryFile, ...]:
    """The libraries of `session`, in order, by name and content. Each was loaded once, in a process of its own.

    `digest` gives the sha256 of a file. Raises ConfigError, with all of them, for what is no library of custom
    operators, and HostError for one that this machine cannot load.
    """
    found = [error for path in session.custom_ops if (error := _fault(path))]
    wrong = [problem for error in found if isinstance(error, ConfigError) for problem in error.problems]
    if wrong:
        raise ConfigError.collected(wrong)
    if found:
        raise found[0]
    digests = {path: digest(Path(path)) for path in session.custom_ops}
    _require_different(digests)
    return tuple(LibraryFile(name=Path(path).name, sha256=sha256) for path, sha256 in digests.items())


def verified_libraries(libraries: Sequence[LibraryFile], inputs: Mapping[str, Path]) -> tuple[str, ...]:
    """Where `libraries` are on this machine, in order. Raises PackageError unless they have the declared content."""
    for library in libraries:
        path = inputs.get(location(library.name))
        if path is None or not path.is_file() or sha256_file(path) != library.sha256:
            raise PackageError(
                f"{library.name} changed while it was being built",
                where=str(path or FOLDER),
                hint="run the build again",
            )
    return tuple(str(inputs[location(library.name)]) for library in libraries)


def copy_libraries(libraries: Sequence[LibraryFile], inputs: Mapping[str, Path], out: Path) -> tuple[str, ...]:
    """Copy `libraries` into `out`, and say what they are called there. Raises PackageError as `verified_libraries`."""
    verified_libraries(libraries, inputs)
    copies = {location(library.name): out / location(library.name) for library in libraries}
    for name, copied in copies.items():
        copied.parent.mkdir(exist_ok=True)
        shutil.copyfile(inputs[name], copied)
    verified_libraries(libraries, copies)
    return tuple(copies)


def _fault(path: str) -> ModelbuildError | None:
    """What is wrong with the library at `path`, found by loading it where nothing is lost if it crashes."""
    # What the library itself writes may be anything.
    settings: dict[str, Any] = {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace"}
    try:
        done = subprocess.run(
            command(_TRIAL, path), env=environment(), timeout=_LOADED_WITHIN_S, check=False, **settings
        )
    except subprocess.TimeoutExpired:
        return HostError(
            f"the library is not loaded after {_LOADED_WITHIN_S} s", where=path, hint="it may wait for something"
        )
    if done.returncode == 0:
        return None
    said = next(filter(None, map(_said, reversed(done.stdout.splitlines()))), None)
    if said is None:
        return _crashed(path, done)
    code, *problem = said
    error = by_code(code)("")
    error.problems = (Problem(*problem),)
    return error


def _said(line: str) -> list[str] | None:
    """The code and the problem that a line of the trial says, or None for one that the library wrote."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(said, list) and len(said) == 4 and all(isinstance(word, str) for word in said)
    return said if whole else None


def _crashed(path: str, done: subprocess.CompletedProcess[str]) -> HostError:
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    return HostError(
        f"loading the library ends the process with {how}{': ' if last else ''}{last}",
        where=path,
        hint="compile it for this machine and this release of ONNX Runtime",
    )


def _require_different(digests: Mapping[str, str]) -> None:
    for path, sha256 in digests.items():
        same = next(other for other in digests if digests[other] == sha256)
        if same != path:
            raise ConfigError(
                f"'{path}' is the same library as '{same}'", where="session.custom_ops", hint="name it once"
            )
