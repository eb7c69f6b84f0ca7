"""Exporters: PyTorch to ONNX, or a graph that somebody else exported. One module each, loaded only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from modelbuild.component import Component
    from modelbuild.graph_source import OwnGraph
    from modelbuild.samples import Batch
    from modelbuild.tasks import Task

EXPORTERS: dict[str, str] = {
    "dynamo": "modelbuild.exporters.dynamo",
    "optimum": "modelbuild.exporters.optimum",
    "file": "modelbuild.exporters.file",
}


class Exporter(Protocol):
    """What an exporter module has: `export` writes one graph of a model to the file `out`, its weights beside it.

    `traced` is a batch to trace with; its inputs come in the order that the graph shall have, and the axes of the
    interface become symbolic. `own` is the graph that was brought along, for the exporter that takes one. Raises
    ExportError when the component cannot be exported, or not at `opset`. Returns what else there is to report.
    """

    def export(
        self, component: Component, task: Task, traced: Batch, opset: int, own: OwnGraph | None, out: Path
    ) -> dict[str, Any]: ...
