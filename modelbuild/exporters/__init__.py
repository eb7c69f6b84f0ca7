"""Exporters: PyTorch to ONNX, or a graph that somebody else exported. One module each, loaded only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from modelbuild.graph_source import OwnGraph
    from modelbuild.tasks import Task

EXPORTERS: dict[str, str] = {
    "dynamo": "modelbuild.exporters.dynamo",
    "optimum": "modelbuild.exporters.optimum",
    "file": "modelbuild.exporters.file",
}


class Exporter(Protocol):
    """What an exporter module has: `export` writes `model.onnx` (and its weights file) into the empty folder `out`.

    `inputs` are arrays `(batch, sequence)` to trace with, in the order the graph shall have them; both axes become
    symbolic. `own` is the graph that was brought along, for the exporter that takes one. Raises ExportError when the
    model cannot be exported, or not at `opset`.
    """

    def export(
        self,
        model: torch.nn.Module,
        task: Task,
        inputs: Mapping[str, npt.NDArray[Any]],
        opset: int,
        own: OwnGraph | None,
        out: Path,
    ) -> None: ...
