"""Load a package, check it, run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from modelbuild.errors import HostError, InputError, PackageError
from modelbuild.manifest import Manifest, read_manifest, verify_files
from modelbuild.runtime.inputs import check_inputs
from modelbuild.runtime.session import ProviderChoice, SessionSettings, open_session

GOLDEN_FILE = "golden.npz"
_GOLDEN_TOLERANCE = 1e-3


class Model:
    """A loaded package. `run` may be called from many threads at once: ONNX Runtime sessions are safe for that."""

    def __init__(self, manifest: Manifest, session: ort.InferenceSession) -> None:
        self.manifest = manifest
        self._session = session
        self._output_names = list(manifest.signature.output_names())

    def run(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """The outputs by name. `inputs` are arrays by name; whatever numpy can read as one (torch tensors too) will do.

        Raises InputError when they do not fit the signature, or hold values the model cannot take, such as a token id
        beyond its vocabulary, and HostError when ONNX Runtime fails for another reason, such as memory.
        """
        arrays = check_inputs(self.manifest.signature, self.manifest.limits, inputs)
        try:
            values = self._session.run(self._output_names, arrays)
        except Exception as error:
            if "INVALID_ARGUMENT" in str(error):
                raise InputError(f"the model cannot take these values: {error}") from error
            raise HostError(f"ONNX Runtime failed: {error}", where=self.manifest.name) from error
        return dict(zip(self._output_names, values, strict=True))

    @property
    def providers(self) -> list[str]:
        """The execution providers of the session, by ONNX Runtime's names, the preferred one first."""
        return list(self._session.get_providers())


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
    which are run and compared. Raises PackageError when the package is damaged, newer than this library or not
    loadable, and HostError when a provider is not available here.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    verify_files(manifest, folder, digests=verify)
    _check_runtime(manifest, folder)
    asked = [providers] if isinstance(providers, str) else providers
    choices = manifest.providers if asked is None else [(p, {}) if isinstance(p, str) else p for p in asked]
    opened = open_session(
        folder / manifest.model_file,
        providers=choices,
        settings=SessionSettings.from_mapping(dict(manifest.session) | dict(session or {})),
        allow_fallback=manifest.allow_fallback,
    )
    model = Model(manifest, opened)
    if verify:
        _replay_golden(model, folder)
    return model


def _check_runtime(manifest: Manifest, folder: Path) -> None:
    here, needed = _version(ort.__version__), _version(manifest.oldest_onnxruntime)
    if here < needed:
        raise PackageError(
            f"onnxruntime {ort.__version__} is older than the {manifest.oldest_onnxruntime} that it needs",
            where=str(folder),
            hint="upgrade onnxruntime, or build with an older opset",
        )


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(".")[:2])
    except ValueError as error:
        raise PackageError(f"manifest.json is damaged: '{text}' is no version of onnxruntime") from error


def _replay_golden(model: Model, folder: Path) -> None:
    """Run the inputs that the package carries, and compare with the outputs of the machine that built it."""
    try:
        with np.load(folder / GOLDEN_FILE, allow_pickle=False) as golden:
            arrays = {name: golden[name] for name in golden.files}
        outputs = model.run({name.removeprefix("input."): a for name, a in arrays.items() if name.startswith("input.")})
        pairs = [(name, output, arrays[f"output.{name}"]) for name, output in outputs.items()]
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


def _difference(output: npt.NDArray[Any], expected: npt.NDArray[Any]) -> tuple[float, float]:
    """The largest difference and its limit, a share of the largest value there should be. An output of another shape,
    or with values that are not finite, is beyond every limit.
    """
    limit = _GOLDEN_TOLERANCE * float(np.max(np.abs(expected), initial=0.0))
    if output.shape != expected.shape:
        return float("inf"), limit
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(output.astype(np.float64) - expected), initial=0.0)), limit
