"""How PyTorch becomes ONNX."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from modelbuild.strict import Strict


def _each_once(names: dict[str, str]) -> dict[str, str]:
    """Refuse a name of the graph that is given to two of the task's."""
    for name in names.values():
        sharing = [task_name for task_name, graph_name in names.items() if graph_name == name]
        if len(sharing) > 1:
            raise ValueError(f"{' and '.join(sharing)} cannot both be '{name}'")
    return names


GraphNames = Annotated[dict[str, Annotated[str, StringConstraints(min_length=1)]], AfterValidator(_each_once)]


class PytorchExporter(Strict):
    """How PyTorch becomes ONNX: torch's own dynamo exporter, or Optimum's."""

    kind: Literal["dynamo", "optimum"]


class FileExporter(Strict):
    """An ONNX file that was exported elsewhere. `path` is absolute once the configuration is read.

    `inputs` and `outputs` say, by the name that the task has for each, what the file calls it; one that they leave out
    has the same name in both.
    """

    kind: Literal["file"]
    path: Annotated[str, StringConstraints(min_length=1)]
    inputs: GraphNames = {}
    outputs: GraphNames = {}


Exporter = Annotated[PytorchExporter | FileExporter, Field(discriminator="kind")]
