"""Graphs of linear layers written by hand, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from modelbuild.graph import MODEL_FILE, data_file
from modelbuild.node_tags import Tag, write_tag

Array = npt.NDArray[Any]
INPUTS, INNER, OUTPUTS = 40, 48, 24
_RNG = np.random.default_rng(5)
UP = (_RNG.standard_normal((INPUTS, INNER)) * 0.3).astype(np.float32)
UP_BIAS = _RNG.standard_normal(INNER).astype(np.float32)
DOWN = (_RNG.standard_normal((OUTPUTS, INNER)) * 0.3).astype(np.float32)
DOWN_BIAS = _RNG.standard_normal(OUTPUTS).astype(np.float32)


def graph_file(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Any],
    *,
    inputs: Mapping[str, Sequence[Any]] | None = None,
    outputs: Mapping[str, Sequence[Any]] | None = None,
    opset: int = 20,
    kinds: Mapping[str, int] | None = None,
) -> Path:
    """A model of those nodes, its weights beside it. What `kinds` does not name is fp32."""

    def declared(values: Mapping[str, Sequence[Any]]) -> list[onnx.ValueInfoProto]:
        kind = kinds or {}
        return [
            helper.make_tensor_value_info(name, kind.get(name, TensorProto.FLOAT), shape)
            for name, shape in values.items()
        ]

    graph = helper.make_graph(
        list(nodes),
        "linear",
        declared(inputs or {"x": ["batch", INPUTS]}),
        declared(outputs or {"y": ["batch", OUTPUTS]}),
        [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    folder.mkdir(exist_ok=True)
    onnx.save(
        onnx.shape_inference.infer_shapes(model), folder / MODEL_FILE, save_as_external_data=True,
        location=data_file(MODEL_FILE), size_threshold=256,
    )  # fmt: skip
    return folder / MODEL_FILE


def two_layers(folder: Path, *, opset: int = 20, up: Array = UP, down: Array = DOWN) -> Path:
    """A MatMul with a bias behind it and a Gemm, whose weight has a row for each output, each with a tag."""
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["product"], name="first"),
        helper.make_node("Add", ["product", "up.bias"], ["inner"], name="bias"),
        helper.make_node("Relu", ["inner"], ["positive"], name="relu"),
        helper.make_node("Gemm", ["positive", "down", "down.bias"], ["y"], name="second", transB=1),
    ]
    for node, module in zip(nodes, ("up", "up", "", "down"), strict=True):
        write_tag(node, Tag(scopes=("", module) if module else ("",)))
    return graph_file(folder, nodes, {"up": up, "up.bias": UP_BIAS, "down": down, "down.bias": DOWN_BIAS}, opset=opset)


def some(rows: int = 6, seed: int = 1) -> dict[str, Array]:
    """Inputs for it."""
    return {"x": np.random.default_rng(seed).standard_normal((rows, INPUTS)).astype(np.float32)}


def outputs_of(model: Path, inputs: Mapping[str, Array]) -> Array:
    """The first output, on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(inputs))[0])


def distance(model: Path, other: Path, inputs: Mapping[str, Array]) -> float:
    """The largest difference of their outputs, as a share of the largest output."""
    first, second = (outputs_of(path, inputs) for path in (model, other))
    return float(np.abs(first - second).max() / np.abs(first).max())


def operators(model: Path) -> list[str]:
    """The operators of a graph, in its order."""
    return [node.op_type for node in onnx.load(model, load_external_data=False).graph.node]


def tensors(model: Path) -> dict[str, Array]:
    """The weights of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
