"""The self-check: inputs that a package carries are run again, and compared with what came out when it was built."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.errors import PackageError
from modelbuild.runtime.cores import processor

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Run = Callable[[Arrays, str], Mapping[str, Array]]

GOLDEN_FILE = "golden.npz"
_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs of each graph, and the outputs that they gave where the package was built."""

    inputs: Mapping[str, Arrays]
    outputs: Mapping[str, Arrays]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far one output is from the golden one, and how far it may be: a share of the largest value there should be,
    and not at all for whole numbers and words.

    An output of another shape, or with values that are not finite, is infinitely far.
    """

    graph: str
    output: str
    worst: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the output is the golden one."""
        return self.worst <= self.limit < np.inf


def read_golden(folder: Path, graphs: Iterable[str]) -> Golden:
    """The golden inputs and outputs of the package in `folder`. Raises PackageError when they cannot be read."""
    try:
        with np.load(folder / GOLDEN_FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise _unfit(error, folder) from error
    return Golden(
        inputs={graph: _part(arrays, f"{graph}/input.") for graph in graphs},
        outputs={graph: _part(arrays, f"{graph}/output.") for graph in graphs},
    )


def _part(arrays: Mapping[str, Array], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def differences(golden: Golden, run: Run) -> Iterator[Difference]:
    """Every output beside the golden one, of the graphs as `run` runs them. Raises what `run` raises, and KeyError for
    an output that there is no golden one of.

    They are those of a second run: ONNX Runtime plans its memory by the first, and 1.18 then computes fused attention
    wrong.
    """
    for graph, inputs in golden.inputs.items():
        run(inputs, graph)
        for name, output in run(inputs, graph).items():
            worst, limit = _difference(output, golden.outputs[graph][name])
            yield Difference(graph=graph, output=name, worst=worst, limit=limit)


def require_golden(golden: Golden, run: Run, folder: Path, built_on: Mapping[str, str]) -> None:
    """Raise PackageError, which says what differs, unless every output is the golden one, as it was on `built_on`."""
    try:
        found = list(differences(golden, run))
    except Exception as error:
        raise _unfit(error, folder) from error
    for difference in found:
        if not difference.passed:
            raise PackageError(
                f"self-check failed: {difference.output} differs by {difference.worst:.3g} from what was built "
                f"(limit {difference.limit:.3g})",
                where=str(folder),
                hint=f"it was built on {' '.join(built_on.values()) or 'another machine'}, and this is "
                f"{platform.machine()} {processor()}: rebuild the package here",
            )


def _unfit(error: Exception, folder: Path) -> PackageError:
    return PackageError(
        f"self-check failed: {GOLDEN_FILE} does not fit the model: {error}",
        where=str(folder),
        hint="build the package again",
    )


def _difference(output: Array, expected: Array) -> tuple[float, float]:
    if expected.dtype.kind != "f":
        return _exact_difference(output, expected), 0.0
    limit = _TOLERANCE * float(np.max(np.abs(expected), initial=0.0))
    if output.shape != expected.shape:
        return float("inf"), limit
    with np.errstate(invalid="ignore"):
        worst = float(np.max(np.abs(output.astype(np.float64) - expected), initial=0.0))
    return (worst if np.isfinite(worst) else float("inf")), limit


def _exact_difference(output: Array, expected: Array) -> float:
    """How far the two are where they are not equal, at least 1; infinitely, where that is no number."""
    if np.array_equal(output, expected):
        return 0.0
    if output.shape != expected.shape or output.dtype.kind not in "iub":
        return float("inf")
    return max(1.0, float(np.max(np.abs(output.astype(np.float64) - expected.astype(np.float64)))))
