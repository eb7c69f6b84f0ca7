"""Precisions: ways to make the weights and the arithmetic of a graph smaller, one module each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from modelbuild.precision_spec import Precision

Arrays = Mapping[str, npt.NDArray[Any]]

PRECISIONS: dict[str, str] = {
    "fp16": "modelbuild.precisions.half",
    "bf16": "modelbuild.precisions.half",
    "int8": "modelbuild.precisions.int8",
    "int8_static": "modelbuild.precisions.int8_static",
    "int8_weights": "modelbuild.precisions.weights",
    "int4": "modelbuild.precisions.weights",
}


class Reducer(Protocol):
    """What a precision module has. A graph's linear layers are known by the names of their nodes."""

    def layers(self, source: Path, precision: Precision) -> tuple[str, ...]:
        """The linear layers of the graph in the file `source` that `reduce` makes smaller, in the graph's order."""
        ...

    def reduce(
        self,
        source: Path,
        out: Path,
        precision: Precision,
        *,
        keep: frozenset[str] = frozenset(),
        calibration: Sequence[Arrays] = (),
        custom_ops: Sequence[str] = (),
    ) -> None:
        """Write to the file `out`, its weights in `data_file(out.name)` beside it, the graph in the file `source` with
        all of its linear layers in `precision`, but those in `keep`. `source` is not changed.

        `calibration` are inputs by name to find ranges on, for a precision that needs them; the operators of the
        libraries `custom_ops` are known where the graph is run on them. Raises OptimizeError when
        the graph cannot be reduced so, as where it has no linear layer.
        """
        ...
