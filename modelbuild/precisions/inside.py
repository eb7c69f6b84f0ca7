"""A graph opened so that tensors inside it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from modelbuild.errors import OptimizeError, first_line
from modelbuild.node_tags import load_graph
from modelbuild.runtime.custom_ops import register


def open_inside(source: Path, names: Sequence[str], custom_ops: Sequence[str] = ()) -> ort.InferenceSession:
    """The graph in a file with the tensors of those names as outputs, too. Its weights stay where they are.

    Raises OptimizeError when it does not load.
    """
    proto = load_graph(source)
    given = {value.name for value in proto.graph.output}
    proto.graph.output.extend(type(proto.graph.output[0])(name=name) for name in names if name not in given)
    options = ort.SessionOptions()
    register(options, custom_ops)
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(source.parent))
    try:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise OptimizeError(f"the graph does not load: {first_line(error)}", where=str(source)) from error
