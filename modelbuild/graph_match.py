"""Whether one graph computes what another does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from modelbuild.batches import random_batches
from modelbuild.errors import OptimizeError, first_line
from modelbuild.interface import AxisKind, Interface
from modelbuild.masks import MASKS
from modelbuild.report import Check
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import Batch
from modelbuild.signature import Signature

Array = npt.NDArray[Any]

# Optimizing fp32 reorders sums and no more: this share of the largest value is far above that, and far below what
# a wrong mask does.
_TOLERANCE = 1e-4
# How many kinds of masks each size is run with: over all sizes, every kind is.
_MASKS = 2
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a graph computes: `outputs`, in the order of `interface`, of each of `batches`. The libraries of its custom
    operators are `custom_ops`.
    """

    interface: Interface
    custom_ops: tuple[str, ...]
    batches: tuple[Batch, ...]
    outputs: Sequence[Sequence[Array]]


def wanted(exported: Path, signature: Signature, interface: Interface, custom_ops: tuple[str, ...] = ()) -> Wanted:
    """What the graph in the file `exported` computes for batches with every kind of mask. Raises OptimizeError when it
    does not run.
    """
    sizes, lengths = _sizes(signature, interface, "batch") or (1, 3), _sizes(signature, interface, "length") or (2, 9)
    batches = tuple(
        random_batches(interface, batches=sizes, sequences=lengths, masks=tuple(MASKS), seed=1, per_size=_MASKS)
    )
    outputs = _outputs(exported, interface, batches, custom_ops, called="exported")
    return Wanted(interface=interface, custom_ops=custom_ops, batches=batches, outputs=outputs)


def match(wanted: Wanted, optimized: Path) -> Check:
    """Whether the graph in the file `optimized` computes what is wanted. Raises OptimizeError when it does not run."""
    interface, batches = wanted.interface, wanted.batches
    found = _outputs(optimized, interface, batches, wanted.custom_ops, called="optimized")
    try:
        cases = [
            (_differences(expected, actual, interface, batch), batch.label)
            for expected, actual, batch in zip(wanted.outputs, found, batches, strict=True)
        ]
    except Exception as error:
        raise OptimizeError(f"the outputs of the optimized graph cannot be compared: {first_line(error)}") from error
    # Of few values all may be close to zero, so that what is small is said by all batches.
    scales = [max(scale for _, scale in outputs) for outputs in zip(*(found for found, _ in cases), strict=True)]
    worst, where = max(
        (max(off / scale for (off, _), scale in zip(found, scales, strict=True)), label) for found, label in cases
    )
    return Check(
        name="matches export",
        passed=worst <= _TOLERANCE,
        compared=f"{len(cases)} batches",
        worst=worst,
        limit=_TOLERANCE,
        where=where,
    )


def _sizes(signature: Signature, interface: Interface, kind: AxisKind) -> tuple[int, ...]:
    """The size that all axes of a kind are fixed to: a graph that was exported elsewhere may take no other."""
    names = {axis.name for axis in interface.axes_of(kind)}
    wanted = {value.name: value.shape for value in interface.inputs}
    found = {
        size
        for spec in signature.inputs
        for axis, size in zip(wanted.get(spec.name, ()), spec.shape, strict=False)
        if axis in names
    }
    return tuple(size for size in found if isinstance(size, int)) if len(found) == 1 else ()


def _outputs(
    model: Path, interface: Interface, batches: Sequence[Batch], custom_ops: tuple[str, ...], called: str
) -> list[list[Array]]:
    """The outputs of each batch, of the graph as it is in the file."""
    settings = SessionSettings(
        graph_optimization_level="none",
        allow_spinning=False,
        custom_ops=custom_ops,
        config_entries={"session.disable_prepacking": "1"},  # weights that are not packed stay in their file
    )
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4  # what fails is raised, and said once
    try:
        session = open_session(model, providers=[("cpu", {})], settings=settings)
        return [session.run(list(interface.output_names()), batch.inputs, quiet) for batch in batches]
    except Exception as error:
        raise OptimizeError(f"the {called} graph does not run: {error}") from error


def _differences(
    before: Sequence[Array], after: Sequence[Array], interface: Interface, batch: Batch
) -> tuple[tuple[float, float], ...]:
    """For each output the largest difference and the largest finite value at valid positions.

    The difference is infinite when the graphs differ in shape, in what is finite or in what is not.
    """
    found = []
    for output, wanted, actual in zip(interface.outputs, before, after, strict=True):
        expected, valid = batch.placed(output, wanted)
        chosen = expected[valid].astype(np.float64)
        scale = max(float(np.max(np.abs(chosen), where=np.isfinite(chosen), initial=0.0)), _TINY)
        same = wanted.shape == actual.shape
        other = batch.placed(output, actual)[0][valid].astype(np.float64) if same else chosen
        found.append((_largest(chosen, other) if same else np.inf, scale))
    return tuple(found)


def _largest(wanted: Array, found: Array) -> float:
    finite = np.isfinite(wanted)
    if not np.isfinite(found[finite]).all() or not np.array_equal(wanted[~finite], found[~finite], equal_nan=True):
        return float("inf")
    return float(np.max(np.abs(wanted[finite] - found[finite]), initial=0.0))
