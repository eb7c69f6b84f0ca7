"""Reading ONNX files: signature, opsets, operators. Weights are not loaded."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from modelbuild.errors import PackageError
from modelbuild.node_tags import all_bodies, all_nodes, load_graph, read_tag
from modelbuild.signature import Signature, TensorSpec

MODEL_FILE = "model.onnx"

# The first ONNX Runtime release with each opset and IR version, from its published compatibility table
# (onnxruntime.ai/docs/reference/compatibility.html) and, where that ends, from the release of ONNX that it was built
# with: 1.17 since 1.21, 1.18 since 1.23. Every release also takes what is older, back to opset 7.
_FIRST_WITH_OPSET = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.23"}
_FIRST_WITH_IR = {8: "1.12", 9: "1.15", 10: "1.18", 11: "1.23"}
# The first release that computes what is meant by an operator of its own, found by running fused all-MiniLM-L6-v2 with
# 1.18.1 (Attention is wrong from the second run on), 1.19.2, 1.20.1 (MultiHeadAttention is wrong), 1.21.1 and 1.23.2.
_FIRST_RIGHT = {"com.microsoft.Attention": "1.19", "com.microsoft.MultiHeadAttention": "1.21"}
DEFAULT_DOMAIN = "ai.onnx"


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What an ONNX file says: signature, opsets by domain, IR version, operator counts and how many nodes are tagged.

    The default domain is `""`, also where the file spells it `ai.onnx`. An axis that has neither size nor name is
    called after its place (`input_ids.0`). Nodes are those of subgraphs and functions too; one is tagged when it says
    which PyTorch module it came from. `data_files` are the files that hold weights, as the ONNX file names them, with
    the size in bytes that each must at least have. `functions` are the operators that the file itself defines.
    """

    signature: Signature
    opsets: Mapping[str, int]
    ir_version: int
    operators: Mapping[str, int]
    tagged_nodes: int
    data_files: Mapping[str, int] = field(default_factory=dict)
    functions: frozenset[str] = frozenset()

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return sum(self.operators.values())

    def oldest_onnxruntime(self) -> str:
        """The oldest ONNX Runtime release (`1.18`) known to take the file's opset and IR version, and to compute its
        fused attention right. Where no release is known to, it is the installed one, which has opened the file.
        """
        releases = [_first(_FIRST_WITH_OPSET, self.opsets[""]), _first(_FIRST_WITH_IR, self.ir_version)]
        releases += [release for operator, release in _FIRST_RIGHT.items() if operator in self.operators]
        return max(releases, key=lambda release: tuple(map(int, release.split("."))))


def _first(releases: Mapping[int, str], version: int) -> str:
    known = next((release for newest, release in releases.items() if version <= newest), None)
    return known or ".".join(_installed_onnxruntime().split(".")[:2])


def _installed_onnxruntime() -> str:
    return next(filter(None, map(installed_version, ("onnxruntime", "onnxruntime-gpu"))), "0.0")


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None. What is broken in others does not matter."""
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: its metadata has no version
        return None


def data_file(file: str) -> str:
    """The name of the file with the weights of an ONNX file of that name, beside it."""
    return f"{file}.data"


def read_graph(model: Path) -> GraphFacts:
    """The facts of the ONNX file `model`. Raises PackageError when it cannot be parsed."""
    proto = load_graph(model)
    nodes = list(all_nodes(proto))
    counts = Counter(node_type(node.domain, node.op_type) for node in nodes)
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    used = {"", *(_domain(node.domain) for node in nodes)}
    return GraphFacts(
        signature=_signature(proto.graph),
        opsets={domain: version for domain, version in opsets.items() if domain in used},
        ir_version=proto.ir_version,
        operators=dict(sorted(counts.items())),
        tagged_nodes=sum(read_tag(node) is not None for node in nodes),
        data_files=_data_files(proto, model),
        functions=frozenset(node_type(function.domain, function.name) for function in proto.functions),
    )


def node_type(domain: str, op_type: str) -> str:
    """`MatMul` for the default domain, `com.microsoft.Attention` for others."""
    return f"{domain}.{op_type}" if _domain(domain) else op_type


def _domain(name: str) -> str:
    return "" if name == DEFAULT_DOMAIN else name


def _data_files(proto: onnx.ModelProto, model: Path) -> dict[str, int]:
    """The files that tensors are kept in, with how many bytes of each are used, as far as the file says."""
    needed: dict[str, int] = {}
    try:
        for tensor in _tensors(proto):
            if tensor.data_location == TensorProto.EXTERNAL:
                where = {entry.key: entry.value for entry in tensor.external_data}
                end = int(where.get("offset") or 0) + int(where.get("length") or 0)
                needed[where["location"]] = max(needed.get(where["location"], 0), end)
    except (KeyError, ValueError) as error:
        raise PackageError(f"it does not say where the data of {tensor.name} is: {error}", where=str(model)) from error
    return dict(sorted(needed.items()))


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: weights, and constants in the attributes of nodes."""
    for body in all_bodies(proto):
        yield from getattr(body, "initializer", ())
    for attribute in (attribute for node in all_nodes(proto) for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


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
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"{value.name}.{number}"
        for number, axis in enumerate(tensor.shape.dim)
    )
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)
