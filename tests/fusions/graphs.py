"""Small graphs by hand: nodes and constants in, a model that onnxruntime runs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Node = tuple[str, Sequence[str], str, Mapping[str, Any]]


def graph(nodes: Sequence[Node], inputs: Mapping[str, int], constants: Mapping[str, npt.NDArray[Any]]) -> ir.Model:
    """A model of these nodes; `inputs` are `(batch, sequence)` of a type, and the last node makes the output."""
    made = []
    for operator, names, output, attributes in nodes:
        domain = "com.microsoft" if operator in {"Attention"} else ""
        made.append(helper.make_node(operator, list(names), [output], domain=domain, **attributes))
    proto = helper.make_model(
        helper.make_graph(
            made,
            "graph",
            [helper.make_tensor_value_info(name, kind, ["batch", "sequence"]) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, ["batch", "sequence", 8])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def outputs(model: ir.Model, inputs: Mapping[str, npt.NDArray[Any]], folder: Path) -> npt.NDArray[Any]:
    """What ONNX Runtime makes of `inputs`, with no optimization of its own."""
    ir.save(model, folder / "graph.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(folder / "graph.onnx"), options, providers=["CPUExecutionProvider"])
    result: npt.NDArray[Any] = np.asarray(session.run(None, dict(inputs))[0])
    return result
