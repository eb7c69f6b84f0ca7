"""Load a package: look whether it is what was built and fits what is here, and open it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from modelbuild.digest import sha256_file
from modelbuild.errors import InputError, PackageError, unforeseen
from modelbuild.manifest import FILE_NAME, Manifest, read_manifest
from modelbuild.package_files import verify_files
from modelbuild.package_folder import package_folder
from modelbuild.runtime.cores import instruction_set
from modelbuild.runtime.metrics import LOGGER
from modelbuild.runtime.model import Around, Model
from modelbuild.runtime.selfcheck import Golden, read_golden, require_golden
from modelbuild.runtime.session import ProviderChoice, SessionSettings, open_session, provider_choices


def load(
    path: str | Path,
    *,
    providers: str | Sequence[str | ProviderChoice] | None = None,
    session: Mapping[str, Any] | None = None,
    allow_fallback: bool | None = None,
    verify: bool = True,
    check_ids: bool = True,
    check_finite: bool = False,
    slow_s: float | None = None,
    around: Around | None = None,
) -> Model:
    """Open the package in the folder `path`, or `registry:NAME`, `registry:NAME@RANGE` or `registry:NAME#STAGE`, which
    is looked up in the registry that the variable MODELBUILD_REGISTRY names.

    `providers` (a name, names, or names with options) and `session` settings replace those it was built for; of the
    providers named here none is left out, unless `allow_fallback`. The files are compared with the manifest: sizes
    always, and with `verify` also their sha256 and the golden inputs, which are run and compared. Libraries of custom
    operators in the package are native code, which is loaded into this process after its sha256 was compared, whatever
    `verify` is: to load such a package is to trust who built it.

    Every run looks at its inputs first: with `check_ids` for ids outside of the vocabulary, with `check_finite` for
    numbers that are not. A run of more than `slow_s` seconds is warned of, by the logger `modelbuild.runtime`, and
    `around` gives a context for each run by the name of its graph, such as the span of a tracer.

    Raises PackageError when the package is damaged, newer than this library or not loadable, or the registry has no
    such name, version or stage; InputError for an argument that cannot be; and HostError when a provider is not
    available here, a file cannot be read, or a library of custom operators cannot be loaded.
    """
    _require_seconds(slow_s)
    asked = None if providers is None else provider_choices(providers)
    folder = package_folder(path)
    manifest = _read(folder, digests=verify)
    if not manifest.verified:
        LOGGER.warning("%s was not proven to compute what its original does (validation=off)", manifest.name)
    _check_runtime(manifest, folder)
    settings = _settings(manifest, folder, session)
    if allow_fallback is None:
        allow_fallback = manifest.allow_fallback and asked is None
    choices = manifest.providers if asked is None else asked
    opened = {
        name: open_session(folder / graph.file, providers=choices, settings=settings, allow_fallback=allow_fallback)
        for name, graph in manifest.graphs.items()
    }
    return Model(
        manifest,
        opened,
        folder,
        golden=_checked(manifest, opened, folder) if verify else None,
        check_ids=check_ids,
        check_finite=check_finite,
        slow_s=slow_s,
        around=around,
    )


def _read(folder: Path, *, digests: bool) -> Manifest:
    """The manifest, if the files are those that it names. Raises HostError where one cannot be read."""
    try:
        manifest = read_manifest(folder)
        verify_files(manifest, folder, digests=digests)
    except FileNotFoundError as error:
        hint = "load it again, or fetch it again"
        raise PackageError(f"{error.filename} went away while it was read", where=str(folder), hint=hint) from error
    except OSError as error:
        raise unforeseen(error) from error
    return manifest


def _require_seconds(slow_s: Any) -> None:
    if slow_s is not None and not (isinstance(slow_s, int | float) and slow_s >= 0):
        raise InputError(f"slow_s is {slow_s!r}, and must be seconds")


def _checked(manifest: Manifest, opened: Mapping[str, ort.InferenceSession], folder: Path) -> Golden:
    """The golden inputs and outputs, if the sessions compute these."""
    golden = read_golden(folder, manifest.graphs)
    checked = Model(manifest, opened, folder)
    require_golden(golden, lambda inputs, graph: checked.run(inputs, graph=graph), folder, manifest.built_on)
    return golden


def _settings(manifest: Manifest, folder: Path, session: Mapping[str, Any] | None) -> SessionSettings:
    """The settings of the package, its libraries where they are in `folder`, replaced by what was asked for.

    Raises InputError when what was asked for does not exist, and PackageError when what the package says does not.
    """
    if not isinstance(session, Mapping | None):
        hint = "such as {'intra_op_num_threads': 2}; presets are chosen when a package is built"
        raise InputError(f"a mapping of settings is wanted, got {session!r}", where="session", hint=hint)
    asked = dict(session or {})
    try:
        SessionSettings.from_mapping(asked)
    except PackageError as error:
        problem = error.problems[0]
        raise InputError(problem.what, where=problem.where, hint=problem.hint) from error
    own = dict(manifest.session)
    if "custom_ops" not in asked:
        named = SessionSettings.from_mapping({"custom_ops": own.get("custom_ops", ())}).custom_ops
        own["custom_ops"] = [_library(manifest, folder, name) for name in named]
    return SessionSettings.from_mapping(own | asked)


def _library(manifest: Manifest, folder: Path, name: str) -> Path:
    """A library of the package, which is native code: it has the digest of the manifest, or it is not loaded."""
    if name not in manifest.files:
        raise PackageError(f"manifest.json is damaged: the library {name!r} is not one of its files", where=str(folder))
    if sha256_file(folder / name) != manifest.files[name].sha256:
        raise PackageError(
            f"{name} has another content (sha256), and is not loaded", where=str(folder), hint="build or fetch it again"
        )
    return folder / name


def _check_runtime(manifest: Manifest, folder: Path) -> None:
    oldest = max((graph.oldest_onnxruntime for graph in manifest.graphs.values()), key=_version)
    if _version(ort.__version__) < _version(oldest):
        raise PackageError(
            f"onnxruntime {ort.__version__} is older than the {oldest} that it needs",
            where=str(folder),
            hint="upgrade onnxruntime, or build with an older opset",
        )
    tied = next((graph.tied_to for graph in manifest.graphs.values() if graph.tied_to), None)
    if tied and tied != instruction_set():
        raise PackageError(
            f"its weights lie as {tied} wants them, and this machine is {instruction_set()}",
            where=str(folder),
            hint="build it here, or with session.graph_optimization_level=extended",
        )


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(".")[:2])
    except (ValueError, AttributeError) as error:
        damaged = f"manifest.json is damaged: '{text}' is no version of onnxruntime"
        raise PackageError(damaged, where=FILE_NAME, hint="build or fetch the package again") from error
