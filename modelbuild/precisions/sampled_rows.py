"""What the layers of a graph read: some rows of tensors inside it, over inputs that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from modelbuild.errors import OptimizeError, first_line
from modelbuild.precisions import Arrays
from modelbuild.precisions.inside import open_inside
from modelbuild.precisions.linear_layers import Floats

_ROWS = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Some rows of a tensor, and the largest magnitude of each channel in all of its rows."""

    rows: Floats
    channels: Floats


def sample_rows(
    source: Path, names: Sequence[str], batches: Sequence[Arrays], custom_ops: Sequence[str] = ()
) -> Mapping[str, Sample]:
    """About 128 rows of each of the tensors, drawn evenly from the batches; a row is what is along the last axis. Rows
    that are not finite are left out, and so are tensors that have no others.

    Raises OptimizeError when the graph does not run on the batches.
    """
    if not names:
        return {}  # ONNX Runtime takes no names for those of all outputs
    session = open_inside(source, names, custom_ops)
    wanted = {value.name for value in session.get_inputs()}
    rng = np.random.default_rng(0)  # a first token is not like the others: no rows at fixed places
    drawn: dict[str, list[Floats]] = {name: [] for name in names}
    channels: dict[str, Floats] = {}
    share = -(-_ROWS // max(1, len(batches)))
    for inputs in batches:
        given = {name: inputs[name] for name in wanted & inputs.keys()}
        for name, values in zip(names, _run(session, names, given), strict=True):
            rows = values.reshape(-1, values.shape[-1])
            rows = rows[np.isfinite(rows).all(axis=1)]
            if rows.size:
                drawn[name].append(rows[rng.permutation(len(rows))[:share]])
                largest = np.abs(rows).max(axis=0)
                channels[name] = np.maximum(channels.get(name, largest), largest)
    return {name: Sample(rows=np.concatenate(drawn[name]), channels=channels[name]) for name in channels}


def _run(session: ort.InferenceSession, names: Sequence[str], inputs: Arrays) -> list[Floats]:
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4  # what fails is raised, and said once
    try:
        results: list[Floats] = session.run(list(names), dict(inputs), quiet)
    except Exception as error:
        raise OptimizeError(
            f"the graph does not run on the calibration data: {first_line(error)}",
            hint="give it all inputs of the graph, in its dtypes",
        ) from error
    return results
