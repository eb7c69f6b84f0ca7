"""Tags that are missing are inferred where nodes around tell, and those that optimizers drop are restored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelbuild.errors import PackageError
from modelbuild.graph import MODEL_FILE, data_file
from modelbuild.node_tags import SCOPES_KEY, Tag, read_tag, write_tag
from modelbuild.tagging import read_hierarchy, restore_tags, ship, tag_exported

WEIGHTS_FILE = data_file(MODEL_FILE)


class Model(torch.nn.Module):  # type: ignore[misc]
    """Two layers, of which the second is tied to the first, and an embedding that is in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 2)
        self.second = torch.nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.table = torch.nn.Embedding(3, 2)
        self.again = self.table


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], module: str | None = None, **more: Any) -> Any:
    """A node named after its first output, tagged with `module`, whose parents are in its path."""
    made = helper.make_node(operator, list(inputs), list(outputs), name=f"n_{outputs[0]}", **more)
    if module is not None:
        parts = [part for part in module.split(".") if part]
        write_tag(made, Tag(scopes=("", *(".".join(parts[: end + 1]) for end in range(len(parts))))))
    return made


def save(path: Path, nodes: Sequence[Any], *, weights: Sequence[str] = (), functions: Sequence[Any] = ()) -> Path:
    tensors = [numpy_helper.from_array(np.ones((4, 4), dtype=np.float32), name) for name in weights]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, functions=list(functions), opset_imports=opsets)
    onnx.save(model, path, save_as_external_data=bool(weights), location=WEIGHTS_FILE, size_threshold=0)
    return path


def found(path: Path) -> dict[str, tuple[str, str] | None]:
    """For each node by its first output the module and how it is known."""
    proto = onnx.load(path, load_external_data=False)
    tags = {item.output[0]: read_tag(item) for item in proto.graph.node}
    return {name: (tag.module, tag.source) if tag else None for name, tag in tags.items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / MODEL_FILE


def test_a_node_without_a_tag_belongs_to_the_deepest_module_that_contains_those_around(model: Path) -> None:
    nodes = [
        node("Constant", [], ["c"], value_float=1.0),
        node("Add", ["x", "c"], ["a"], "encoder.layer.query"),
        node("Relu", ["a"], ["b"]),
        node("Add", ["b", "b"], ["d"], "encoder.layer.key"),
        node("Relu", ["d"], ["e"]),
        node("Relu", ["e"], ["f"], "head"),
    ]
    tag_exported(save(model, nodes), Model())
    assert found(model) == {
        "c": ("encoder.layer.query", "inferred"),
        "a": ("encoder.layer.query", "exporter"),
        "b": ("encoder.layer", "inferred"),
        "d": ("encoder.layer.key", "exporter"),
        "e": ("", "inferred"),
        "f": ("head", "exporter"),
    }


def test_what_is_far_from_every_tag_is_not_given_one(model: Path) -> None:
    chain = [node("Relu", [f"v{number}"], [f"v{number + 1}"]) for number in range(9)]
    tag_exported(save(model, [node("Relu", ["x"], ["v0"], "head"), *chain]), Model())
    tagged = [name for name, tag in found(model).items() if tag]
    assert tagged == ["v0", "v1", "v2", "v3", "v4"]


def test_a_graph_without_any_tag_stays_as_it_is(model: Path) -> None:
    save(model, [node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["b"])])
    before = model.read_bytes()
    tag_exported(model, Model())
    assert model.read_bytes() == before
    coverage = read_hierarchy(model, "file", Model()).exported
    assert (coverage.nodes, coverage.tagged_nodes, coverage.share) == (2, 0, 0.0)


def test_tags_that_cannot_be_read_are_none_and_those_of_other_models_are_astray(model: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"], "first"),
        node("Relu", ["a"], ["b"], "somebody.elses"),
        node("Relu", ["b"], ["c"]),
    ]
    nodes[2].metadata_props.add(key=SCOPES_KEY, value="first/linear")
    hierarchy = read_hierarchy(save(model, nodes), "file", Model())
    assert (hierarchy.exported.tagged_nodes, hierarchy.exported.astray_nodes) == (1, 1)
    assert set(hierarchy.modules) == {"", "first", "second", "table"}


def test_nodes_of_subgraphs_and_functions_belong_to_where_they_run_unless_they_say_so(model: Path) -> None:
    out = [helper.make_tensor_value_info("i", TensorProto.FLOAT, None)]
    branch = helper.make_graph([node("Relu", ["x"], ["i"])], "branch", [], out)
    other = helper.make_graph([node("Relu", ["x"], ["i"], "first")], "other", [], out)
    body = [node("Relu", ["p"], ["q"], "second"), node("Tanh", ["r"], ["s"])]
    function = helper.make_function("mine", "f", ["p", "r"], ["q", "s"], body, [helper.make_opsetid("", 18)])
    nodes = [
        node("If", ["x"], ["w"], "table", then_branch=branch, else_branch=other),
        node("f", ["w", "w"], ["y", "z"], "first", domain="mine"),
    ]
    tag_exported(save(model, nodes, functions=[function]), Model())
    counts = {path: module.nodes for path, module in read_hierarchy(model, "file", Model()).modules.items()}
    assert counts == {"": 0, "first": 3, "second": 1, "table": 2}


def test_tags_come_back_by_value_by_name_and_by_weights(tmp_path: Path) -> None:
    exported, shipped = tmp_path / "exported.onnx", tmp_path / "shipped.onnx"
    weights = ["table", "gamma", "shared"]
    save(exported, [
        node("Gather", ["table", "x"], ["looked_up"], "embeddings.words"),
        node("Mul", ["looked_up", "gamma"], ["normed"], "embeddings.norm"),
        node("Add", ["normed", "shared"], ["sum"], "encoder.first"),
        node("Mul", ["sum", "shared"], ["product"], "encoder.second"),
        node("Relu", ["product"], ["out"], "head"),
    ], weights=weights)  # fmt: skip
    renamed = node("Relu", ["fused"], ["other_value"])
    renamed.name = "n_out"
    save(shipped, [
        node("Cast", ["x"], ["ids"], to=TensorProto.INT32),
        node("EmbedLayerNormalization", ["ids", "table", "gamma"], ["embedded"]),
        node("FusedAdd", ["embedded", "shared"], ["product"]),
        node("Identity", ["product"], ["fused"]),
        renamed,
    ], weights=weights)  # fmt: skip
    content = (tmp_path / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).unlink()
    restore_tags(shipped, exported)
    assert found(shipped) == {
        "ids": ("embeddings", "inferred"),
        "embedded": ("embeddings", "inferred"),
        "product": ("encoder.second", "value"),
        "fused": ("", "inferred"),
        "other_value": ("head", "name"),
    }
    assert content
    assert not (tmp_path / WEIGHTS_FILE).exists()


def test_a_name_that_another_operator_has_now_tells_nothing(tmp_path: Path) -> None:
    exported, shipped = tmp_path / "exported.onnx", tmp_path / "shipped.onnx"
    save(exported, [node("Relu", ["x"], ["a"], "head")])
    renamed = node("Tanh", ["x"], ["b"])
    renamed.name = "n_a"
    restore_tags(save(shipped, [renamed]), exported)
    assert found(shipped) == {"b": None}


def test_a_file_in_which_nothing_is_missing_is_not_written(tmp_path: Path) -> None:
    exported, shipped = tmp_path / "exported.onnx", tmp_path / "shipped.onnx"
    for path in (exported, shipped):
        save(path, [node("Relu", ["x"], ["a"], "head")])
    shipped.chmod(0o444)
    modified = shipped.stat().st_mtime_ns
    restore_tags(shipped, exported)
    assert shipped.stat().st_mtime_ns == modified


@pytest.mark.parametrize("broken", ["exported", "shipped"])
def test_a_file_that_is_not_onnx_is_a_package_error(broken: str, tmp_path: Path) -> None:
    paths = {name: save(tmp_path / name, [node("Relu", ["x"], ["a"], "head")]) for name in ("exported", "shipped")}
    paths[broken].write_bytes(b"PK\x03\x04")
    with pytest.raises(PackageError, match="not an ONNX file"):
        restore_tags(paths["shipped"], paths["exported"])


def test_parameters_are_counted_once_and_modules_where_they_are_first_or_named(model: Path) -> None:
    hierarchy = read_hierarchy(save(model, [node("Relu", ["x"], ["a"], "again")]), "file", Model())
    counted = {path: (module.class_name, module.parameters) for path, module in hierarchy.modules.items()}
    assert counted == {
        "": ("Model", 0), "first": ("Linear", 6), "second": ("Linear", 2), "table": ("Embedding", 6),
        "again": ("Embedding", 0),
    }  # fmt: skip
    assert hierarchy.with_children()[""].parameters == sum(item.numel() for item in Model().parameters())


def test_without_the_model_the_modules_are_those_that_tags_name(model: Path) -> None:
    tagged = node("Relu", ["x"], ["a"])
    write_tag(tagged, Tag(scopes=("", "encoder", "encoder.layer.0"), classes=("a.Model", "a.Encoder", "a.b.Layer")))
    hierarchy = read_hierarchy(save(model, [tagged]), "file")
    assert {path: item.class_name for path, item in hierarchy.modules.items()} == {
        "": "Model", "encoder": "Encoder", "encoder.layer.0": "Layer",
    }  # fmt: skip


def test_what_ships_is_counted_beside_what_was_exported(tmp_path: Path) -> None:
    exported, shipped = tmp_path / "exported.onnx", tmp_path / "shipped.onnx"
    save(exported, [node("Relu", ["x"], ["a"], "first"), node("Relu", ["a"], ["b"], "first")])
    save(shipped, [node("Relu", ["x"], ["b"], "first"), node("Relu", ["b"], ["c"], "no.such")])
    hierarchy = ship(read_hierarchy(exported, "dynamo", Model()), shipped)
    assert hierarchy.shipped is not None
    assert (hierarchy.shipped.nodes, hierarchy.shipped.tagged_nodes) == (2, 1)
    assert (hierarchy.modules["first"].nodes, hierarchy.modules["first"].shipped_nodes) == (2, 1)
