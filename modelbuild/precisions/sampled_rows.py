"""What the layers of a graph read: some rows of tensors inside it, over inputs that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from modelbuild.errors import OptimizeError, first_line
from modelbuild.precisions import Arrays
from modelbuild.precisions.inside import open_inside
from modelbuild.precisions.linear_layers import Floats

# Channels that are large are so in most rows: on all-MiniLM-L6-v2 four times as many chose the same.
_ROWS = 256


def sample_rows(source: Path, names: Sequence[str], batches: Sequence[Arrays]) -> Mapping[str, Floats]:
    """About 256 rows of each of the tensors, evenly over the batches; a row is what is along the last axis. Rows that
    are not finite are left out, and so are tensors that have none.

    Raises OptimizeError when the graph does not run on the batches.
    """
    session = open_inside(source, names)
    wanted = {value.name for value in session.get_inputs()}
    share = max(1, -(-_ROWS // max(1, len(batches))))
    found: dict[str, list[Floats]] = {name: [] for name in names}
    for inputs in batches:
        given = {name: inputs[name] for name in wanted & inputs.keys()}
        for name, values in zip(names, _run(session, names, given), strict=True):
            rows = values.reshape(-1, values.shape[-1])
            # A copy, so that what is left out is not kept in memory.
            found[name].append(rows[:: max(1, len(rows) // share)][:share][:_ROWS].copy())
    sampled = {name: np.concatenate(rows)[:_ROWS] for name, rows in found.items() if rows}
    finite = {name: rows[np.isfinite(rows).all(axis=1)] for name, rows in sampled.items()}
    return {name: rows for name, rows in finite.items() if rows.size}


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
