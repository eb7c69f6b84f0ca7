"""Load a package, check it, run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from modelbuild.digest import sha256_file
from modelbuild.errors import HostError, InputError, PackageError
from modelbuild.manifest import FILE_NAME, Manifest, read_manifest, verify_files
from modelbuild.runtime.inputs import check_inputs
from modelbuild.runtime.session import ProviderChoice, SessionSettings, open_session
from modelbuild.suggest import did_you_mean

Array = npt.NDArray[Any]

GOLDEN_FILE = "golden.npz"
_GOLDEN_TOLERANCE = 1e-3


class Model:
    """A loaded package. `run` may be called from many threads at once: ONNX Runtime sessions are safe for that."""

    def __init__(self, manifest: Manifest, sessions: Mapping[str, ort.InferenceSession]) -> None:
        self.manifest = manifest
        self._sessions = sessions

    def run(self, inputs: Mapping[str, Any], graph: str | None = None) -> dict[str, npt.NDArray[Any]]:
        """The outputs by name. `inputs` are arrays by name; whatever numpy can read as one (torch tensors too) will do.

        `graph` is which one of `manifest.graphs` to run, where there are several. Raises InputError when there is no
        such graph, when the inputs do not fit its signature or hold values the model cannot take, such as a token id
        beyond its vocabulary, and HostError when ONNX Runtime fails for another reason, such as memory.
        """
        name = self._graph(graph)
        record = self.manifest.graphs[name]
        arrays = check_inputs(
            record.signature,
            record.limits,
            inputs,
            may_be_empty=record.may_be_empty,
            sums=record.sums,
            steps=record.steps,
        )
        names = list(record.signature.output_names())
        try:
            values = self._sessions[name].run(names, arrays)
        except Exception as error:
            if "INVALID_ARGUMENT" in str(error):
                raise InputError(f"the model cannot take these values: {error}") from error
            raise HostError(f"ONNX Runtime failed: {error}", where=self.manifest.name) from error
        return dict(zip(names, values, strict=True))

    def _graph(self, name: str | None) -> str:
        known = self.manifest.graphs
        if name is None and len(known) == 1:
            return next(iter(known))
        if name is None or name not in known:
            if name is None:
                hint = f"the package has {', '.join(known)}"
                raise InputError("graph must say which one to run", where=self.manifest.name, hint=hint)
            raise InputError(f"there is no graph '{name}'", where=self.manifest.name, hint=did_you_mean(name, known))
        return name

    @property
    def providers(self) -> list[str]:
        """The execution providers of the session, by ONNX Runtime's names, the preferred one first."""
        return list(next(iter(self._sessions.values())).get_providers())


def load(
    path: str | Path,
    *,
    providers: str | Sequence[str | ProviderChoice] | None = None,
    session: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> Model:
    """Open the package in the folder `path`.

    `providers` (a name, names, or names with options) and `session` settings replace those it was built for. The
    files are compared with the manifest: sizes always, and with `verify` also their sha256 and the golden inputs,
    which are run and compared. Libraries of custom operators in the package are native code, which is loaded into this
    process after its sha256 was compared, whatever `verify` is: to load such a package is to trust who built it.

    Raises PackageError when the package is damaged, newer than this library or not loadable, InputError when a session
    setting does not exist, and HostError when a provider is not available here, or a library of custom operators cannot
    be loaded.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    verify_files(manifest, folder, digests=verify)
    _check_runtime(manifest, folder)
    asked = [providers] if isinstance(providers, str) else providers
    choices = manifest.providers if asked is None else [(p, {}) if isinstance(p, str) else p for p in asked]
    settings = _settings(manifest, folder, dict(session or {}))
    opened = {
        name: open_session(
            folder / graph.file, providers=choices, settings=settings, allow_fallback=manifest.allow_fallback
        )
        for name, graph in manifest.graphs.items()
    }
    model = Model(manifest, opened)
    if verify:
        _replay_golden(model, folder)
    return model


def _settings(manifest: Manifest, folder: Path, asked: dict[str, Any]) -> SessionSettings:
    """The settings of the package, its libraries where they are in `folder`, replaced by what was asked for.

    Raises InputError when what was asked for does not exist, and PackageError when what the package says does not.
    """
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


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(".")[:2])
    except ValueError as error:
        damaged = f"manifest.json is damaged: '{text}' is no version of onnxruntime"
        raise PackageError(damaged, where=FILE_NAME, hint="build or fetch the package again") from error


def _replay_golden(model: Model, folder: Path) -> None:
    """Run the inputs that the package carries, and compare with the outputs of the machine that built it."""
    try:
        with np.load(folder / GOLDEN_FILE, allow_pickle=False) as golden:
            arrays = {name: golden[name] for name in golden.files}
        pairs = [pair for graph in model.manifest.graphs for pair in _golden_pairs(model, graph, arrays)]
    except Exception as error:
        raise PackageError(
            f"self-check failed: {GOLDEN_FILE} does not fit the model: {error}",
            where=str(folder),
            hint="build the package again",
        ) from error
    for name, output, expected in pairs:
        worst, limit = _difference(output, expected)
        if not worst <= limit < np.inf:
            raise PackageError(
                f"self-check failed: {name} differs by {worst:.3g} from what was built (limit {limit:.3g})",
                where=str(folder),
                hint="this machine computes something else; rebuild the package for it",
            )


def _golden_pairs(model: Model, graph: str, arrays: Mapping[str, Array]) -> list[tuple[str, Array, Array]]:
    """For each output of one graph its name, what came out here and what came out where the package was built. They are
    of a second run: ONNX Runtime plans its memory by the first, and 1.18 then computes fused attention wrong.
    """
    given, wanted = f"{graph}/input.", f"{graph}/output."
    inputs = {name.removeprefix(given): array for name, array in arrays.items() if name.startswith(given)}
    model.run(inputs, graph=graph)
    outputs = model.run(inputs, graph=graph)
    return [(name, output, arrays[f"{wanted}{name}"]) for name, output in outputs.items()]


def _difference(output: npt.NDArray[Any], expected: npt.NDArray[Any]) -> tuple[float, float]:
    """The largest difference and its limit, a share of the largest value there should be. An output of another shape,
    or with values that are not finite, is beyond every limit.
    """
    limit = _GOLDEN_TOLERANCE * float(np.max(np.abs(expected), initial=0.0))
    if output.shape != expected.shape:
        return float("inf"), limit
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(output.astype(np.float64) - expected), initial=0.0)), limit
