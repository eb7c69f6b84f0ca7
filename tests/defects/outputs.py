"""Defects in inputs and outputs: names, order, types, and what is in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from defects.defect import Defect
from defects.graphs import Graph, edited
from defects.models import Build
from defects.weights import HIDDEN, OFF, change, put
from onnx import TensorProto


def _inside(edit: Callable[[Graph], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        with edited(build.folders["optimize"]) as graph:
            edit(graph)

    return plant


def _renamed(names: dict[str, str]) -> Callable[[Graph], None]:
    """Give outputs other names, in the graph and on the nodes that give them."""

    def edit(graph: Graph) -> None:
        for node in graph.nodes:
            node.output[:] = [names.get(name, name) for name in node.output]

    return edit


def _output_called(name: str) -> Callable[[Graph], None]:
    def edit(graph: Graph) -> None:
        output = graph.model.graph.output[0]
        _renamed({output.name: name})(graph)
        output.name = name

    return edit


def _reordered(field: str) -> Callable[[Graph], None]:
    def edit(graph: Graph) -> None:
        values = getattr(graph.model.graph, field)
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]
        del values[:]
        values.extend([copies[1], copies[0], *copies[2:]])

    return edit


def _cast(dtype: int) -> Callable[[Graph], None]:
    def edit(graph: Graph) -> None:
        output = graph.model.graph.output[0]
        graph.after(output.name, ("Cast", {"to": dtype}, []))
        output.type.tensor_type.elem_type = dtype

    return edit


def _transposed(graph: Graph) -> None:
    graph.after(graph.model.graph.output[0].name, ("Transpose", {"perm": [1, 0, 2]}, []))


def _extra(graph: Graph) -> None:
    """Hidden states that nobody asked for."""
    inner = graph.ops("LayerNormalization")[0].output[0]
    graph.model.graph.output.append(
        onnx.helper.make_tensor_value_info(inner, TensorProto.FLOAT, ["batch", "sequence", 32])
    )


def _missing(graph: Graph) -> None:
    del graph.model.graph.output[1]


def _softmax(graph: Graph) -> None:
    graph.after(graph.model.graph.output[0].name, ("Softmax", {"axis": -1}, []))


def _without_token_types(graph: Graph) -> None:
    """The input is there, and nothing reads it."""
    zeros = onnx.helper.make_node("Sub", ["token_type_ids", "token_type_ids"], ["planted_types"])
    graph.rewire("token_type_ids", "planted_types")
    graph.nodes.insert(0, zeros)


def _inputs_swapped(graph: Graph) -> None:
    """Token types are read where the mask is meant, and the other way round."""
    for node in graph.nodes:
        swapped = {"token_type_ids": "attention_mask", "attention_mask": "token_type_ids"}
        node.input[:] = [swapped.get(name, name) for name in node.input]


DEFECTS = (
    Defect(
        name="start and end are swapped",
        group="outputs",
        model="bert-answers",
        plant=_inside(_renamed({"start_logits": "end_logits", "end_logits": "start_logits"})),
        check="parity.start_logits",
        message=OFF,
        place=r"every PyTorch module is right: it departs after the last one",
    ),
    Defect(
        name="start and end are given in the other order",
        group="outputs",
        model="bert-answers",
        plant=_inside(_reordered("output")),
        check="signature",
        message=r"gives end_logits \(float32\), start_logits \(float32\); expected: .* gives start_logits",
    ),
    Defect(
        name="an output has another name",
        group="outputs",
        model="bert",
        plant=_inside(_output_called("hidden")),
        check="signature",
        message=r"gives hidden \(float32\); expected: .* gives last_hidden_state \(float32\)",
    ),
    Defect(
        name="an output is fp16",
        group="outputs",
        model="distilbert",
        plant=_inside(_cast(TensorProto.FLOAT16)),
        check="signature",
        message=r"gives last_hidden_state \(float16\); expected",
    ),
    Defect(
        name="an output is fp64",
        group="outputs",
        model="bert-classifier",
        plant=_inside(_cast(TensorProto.DOUBLE)),
        check="signature",
        message=r"gives logits \(float64\); expected",
    ),
    Defect(
        name="batch and sequence of an output are transposed",
        group="outputs",
        model="bert-optimum",
        plant=_inside(_transposed),
        check=HIDDEN,
        message=r"shape \(1, \d, 32\), PyTorch \(\d, 1, 32\)|shape \(\d+, \d+, 32\), PyTorch \(\d+, \d+, 32\)",
        place=r"every PyTorch module is right: it departs after the last one",
    ),
    Defect(
        name="an output that nobody asked for",
        group="outputs",
        model="bert",
        plant=_inside(_extra),
        check="signature",
        message=r"gives last_hidden_state \(float32\), layer_norm \(float32\); expected",
    ),
    Defect(
        name="an output is missing",
        group="outputs",
        model="bert-answers",
        plant=_inside(_missing),
        check="signature",
        message=r"gives start_logits \(float32\); expected: .* gives start_logits \(float32\), end_logits",
    ),
    Defect(
        name="inputs are in another order",
        group="outputs",
        model="bert-fused",
        plant=_inside(_reordered("input")),
        check="signature",
        message=r"takes attention_mask \(int64\), input_ids .*; expected: it takes input_ids \(int64\), attention_mask",
    ),
    Defect(
        name="the mask and the token types are swapped",
        group="outputs",
        model="bert-fill-mask",
        plant=_inside(_inputs_swapped),
        check="top-1.logits",
        message=r"onnx \d+, torch \d+$",
    ),
    Defect(
        name="the token types are not read",
        group="outputs",
        model="bert-optimum",
        plant=_inside(_without_token_types),
        check=HIDDEN,
        message=OFF,
    ),
    Defect(
        name="softmax is applied to the logits",
        group="outputs",
        model="distilbert-classifier",
        plant=_inside(_softmax),
        check="parity.logits",
        message=OFF,
    ),
    Defect(
        name="the classes of the classifier are permuted",
        group="outputs",
        model="bert-classifier",
        plant=change("classifier.weight", lambda values: np.ascontiguousarray(values[[1, 0, 2]])),
        check="top-1.logits",
        message=r"onnx [012], torch [012]$",
        place=r"first departs in classifier \(Linear\)",
    ),
    Defect(
        name="the labels of tokens are permuted",
        group="outputs",
        model="albert",
        plant=change("classifier.bias", lambda values: np.ascontiguousarray(values[[1, 2, 3, 0]])),
        check="KL.logits",
        message=r"at .*, \[\d+, \d+\]$",
    ),
    Defect(
        name="one value of the output is NaN",
        group="outputs",
        model="bert",
        plant=change("layer.1.output.LayerNorm.bias", put(5, float("nan"))),
        check="finite.last_hidden_state",
        message=r"\[\d+, \d+, 5\]: onnx nan, torch",
        place=r"first departs in encoder\.layer\.1\.output\.LayerNorm \(LayerNorm\)",
    ),
    Defect(
        name="one value of the output is infinite",
        group="outputs",
        model="distilbert",
        plant=change("output_layer_norm.bias", put(7, float("inf"))),
        check="finite.last_hidden_state",
        message=r"\[\d+, \d+, 7\]: onnx inf, torch",
        place=r"first departs in transformer\.layer\.0\.output_layer_norm \(LayerNorm\)",
    ),
)
