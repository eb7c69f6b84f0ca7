"""Reading ONNX files: signature, opsets, operators, hierarchy. Weights are not loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from modelbuild.errors import PackageError
from modelbuild.signature import Signature, TensorSpec

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
SCOPES_KEY = "pkg.torch.onnx.name_scopes"
CLASSES_KEY = "pkg.torch.onnx.class_hierarchy"

# The first ONNX Runtime release with each opset and IR version, from its published compatibility table
# (onnxruntime.ai/docs/reference/compatibility.html).
_FIRST_WITH_OPSET = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18"}
_FIRST_WITH_IR = {8: "1.12", 9: "1.15", 10: "1.18"}


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What an ONNX file says: signature, opsets by domain, IR version, operator counts and how many nodes are tagged.

    A node is tagged when it says which PyTorch module it came from.
    """

    signature: Signature
    opsets: Mapping[str, int]
    ir_version: int
    operators: Mapping[str, int]
    tagged_nodes: int

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return sum(self.operators.values())

    def oldest_onnxruntime(self) -> str:
        """The oldest ONNX Runtime release (`1.18`) whose published opset and IR support covers the file."""
        releases = [_FIRST_WITH_OPSET.get(self.opsets[""], "1.18"), _FIRST_WITH_IR.get(self.ir_version, "1.18")]
        return max(releases, key=lambda release: tuple(map(int, release.split("."))))


def read_graph(model: Path) -> GraphFacts:
    """The facts of the ONNX file `model`. Raises PackageError when it cannot be parsed."""
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception as error:
        raise PackageError(f"not an ONNX file: {error}", where=str(model)) from error
    if not proto.opset_import:  # protobuf reads an empty file as an empty model
        raise PackageError("not an ONNX file: it names no opset", where=str(model))
    names = {node_type(node.domain, node.op_type) for node in proto.graph.node}
    counts = Counter(node_type(node.domain, node.op_type) for node in proto.graph.node)
    return GraphFacts(
        signature=_signature(proto.graph),
        opsets={entry.domain: entry.version for entry in proto.opset_import if _used(entry.domain, names)},
        ir_version=proto.ir_version,
        operators=dict(sorted(counts.items())),
        tagged_nodes=sum(any(p.key == SCOPES_KEY for p in node.metadata_props) for node in proto.graph.node),
    )


def module_tree(model: Path) -> dict[str, int]:
    """Nodes per PyTorch module path in the ONNX file `model`, for the nodes that are tagged; `""` is the model
    itself.
    """
    proto = onnx.load(model, load_external_data=False)
    counts: Counter[str] = Counter()
    for node in proto.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == SCOPES_KEY), None)
        if scopes is not None:
            counts[innermost_module(scopes)] += 1
    return dict(sorted(counts.items()))


def innermost_module(scopes: str) -> str:
    """The module path in a node's scopes, which torch writes as a list whose last entry is the operator.

    Torch puts a placeholder where it saw no module; such a node belongs to the model itself.
    """
    paths = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    inner = paths[-2] if len(paths) > 1 else ""
    return "" if inner.startswith("_empty_nn_module_stack") else inner


def node_type(domain: str, op_type: str) -> str:
    """`MatMul` for the default domain, `com.microsoft.Attention` for others."""
    return f"{domain}.{op_type}" if domain else op_type


def _used(domain: str, names: set[str]) -> bool:
    return not domain or any(name.startswith(f"{domain}.") for name in names)


def _signature(graph: onnx.GraphProto) -> Signature:
    weights = {tensor.name for tensor in graph.initializer}
    return Signature(
        inputs=tuple(_tensor(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in graph.output),
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = (
        "undefined"
        if tensor.elem_type == TensorProto.UNDEFINED
        else helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    )
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)
