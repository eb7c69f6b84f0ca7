"""What names of nodes tell: TorchScript's scopes, matched with the modules that there are."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest
import torch
from onnx import helper

from modelbuild.node_tags import Tag, read_tag
from modelbuild.scopes import tag_by_scope


class Block(torch.nn.Module):  # type: ignore[misc]
    """A block with a part, which is called twice in some tests."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(2, 2)
        self.norm_1 = torch.nn.LayerNorm(2)


class Stack(torch.nn.Module):  # type: ignore[misc]
    """Two blocks in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.ModuleList([Block(), Block()])


class Model(torch.nn.Module):  # type: ignore[misc]
    """An encoder and a decoder that look alike, but for a gate, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Stack()
        self.decoder = Stack()
        self.decoder.gate = torch.nn.Linear(2, 2)
        self.head = torch.nn.Linear(2, 2)


def tags(names: Sequence[str]) -> list[Tag | None]:
    nodes = [helper.make_node("Relu", [f"x{number}"], [f"y{number}"], name=name) for number, name in enumerate(names)]
    proto = helper.make_model(helper.make_graph(nodes, "graph", [], []))
    tag_by_scope(proto, Model())
    onnx.ModelProto.FromString(proto.SerializeToString())
    return [read_tag(node) for node in proto.graph.node]


def modules(*names: str) -> list[str | None]:
    return [tag.module if tag else None for tag in tags(names)]


def test_a_scope_is_the_path_of_the_modules_around_a_node() -> None:
    (tag,) = tags(["/encoder/layer.0/dense/MatMul"])
    assert tag is not None
    assert tag.scopes == ("", "encoder", "encoder.layer.0", "encoder.layer.0.dense")
    assert [name.rpartition(".")[2] for name in tag.classes] == ["Model", "Stack", "Block", "Linear"]
    assert tag.source == "scope"


def test_a_node_in_no_module_is_the_models_own() -> None:
    assert modules("/Gather", "/head/Gemm") == ["", "head"]


def test_a_model_without_modules_has_all_of_its_nodes() -> None:
    assert modules("/Add", "/", "//", "Constant_1") == ["", "", "", None]


def test_a_module_that_is_called_again_is_the_same_module() -> None:
    assert modules("/encoder/layer.1_1/dense_3/MatMul", "/encoder/layer.0/norm_1/Add") == [
        "encoder.layer.1.dense",
        "encoder.layer.0.norm_1",
    ]


def test_a_wrapper_around_the_model_is_left_out() -> None:
    assert modules("/model/encoder/layer.0/MatMul", "/model/head/Gemm", "/model/Add", "/Add") == [
        "encoder.layer.0", "head", "", "",
    ]  # fmt: skip


def test_a_part_of_the_model_that_was_exported_alone_is_found() -> None:
    assert modules("/gate/MatMul", "/layer.0/dense/MatMul", "/Add") == [
        "decoder.gate", "decoder.layer.0.dense", "decoder",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ["/layer.0/dense/MatMul", "/layer.1/dense/MatMul"],  # the encoder or the decoder
        ["/NoSuch/MatMul", "/another/one/Add"],
        ["Constant_88", "Identity_65", ""],
        ["head", "head/Gemm"],
        ["/encoder.layer.7/dense/MatMul"],
        ["/../../etc/MatMul"],
    ],
)
def test_what_names_no_module_or_more_than_one_is_not_tagged(names: list[str]) -> None:
    found = [path for path in modules(*names) if path]
    assert found == []


def test_below_a_module_that_there_is_not_a_node_belongs_to_the_deepest_that_there_is() -> None:
    assert modules("/encoder/patched/inner/Mul", "/patched/Mul", "/head/Gemm") == ["encoder", None, "head"]
