"""Defects in what is computed: activations, scales, noise, rows that see each other, precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from defects.defect import Defect
from defects.graphs import Graph, edited
from defects.models import Build
from defects.weights import HIDDEN, OFF
from onnx import TensorProto


def _inside(edit: Callable[[Graph], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        with edited(build.folders["optimize"]) as graph:
            edit(graph)

    return plant


def _tanh_gelu(graph: Graph) -> None:
    for node in graph.ops("Gelu"):
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))


def _relu(graph: Graph) -> None:
    for node in graph.ops("Gelu"):
        node.op_type = "Relu"
        del node.attribute[:]


def _unscaled(graph: Graph) -> None:
    """Queries and keys are not divided by the root of the root of the head's size."""
    scores = graph.producer(graph.producer(graph.ops("Softmax")[0].input[0]).input[0])
    for factor in scores.input:
        graph.producer(factor).input[1] = graph.constant([1.0])


def _dropout(graph: Graph) -> None:
    """One value in ten is dropped, as in a model that was left in train mode. ONNX Runtime drops its own Dropout."""
    value = graph.ops("LayerNormalization")[0].output[0]
    position = list(graph.nodes).index(graph.producer(value)) + 1
    graph.rewire(value, "planted_dropped")
    for node in reversed(
        [
            onnx.helper.make_node("RandomUniformLike", [value], ["planted_chance"]),
            onnx.helper.make_node("Greater", ["planted_chance", graph.constant(0.1)], ["planted_kept"]),
            onnx.helper.make_node("Where", ["planted_kept", value, graph.constant(0.0)], ["planted_dropped"]),
        ]
    ):
        graph.nodes.insert(position, node)


def _centred_over_rows(graph: Graph) -> None:
    """Rows see each other: a hundredth of the mean over the batch is taken from each."""
    value = graph.ops("LayerNormalization")[0].output[0]
    position = list(graph.nodes).index(graph.producer(value)) + 1
    graph.rewire(value, "planted_centred")
    axes = graph.constant([0], np.int64)
    for node in reversed(
        [
            onnx.helper.make_node("ReduceMean", [value, axes], ["planted_mean"], keepdims=1),
            onnx.helper.make_node("Mul", ["planted_mean", graph.constant(0.01)], ["planted_share"]),
            onnx.helper.make_node("Sub", [value, "planted_share"], ["planted_centred"]),
        ]
    ):
        graph.nodes.insert(position, node)


def _through_fp16(scale: float) -> Callable[[Graph], None]:
    """What comes out of the activations, times `scale`, is kept as fp16 for a moment."""

    def edit(graph: Graph) -> None:
        graph.after(
            graph.ops("Gelu")[0].output[0],
            ("Mul", {}, [graph.constant(scale)]),
            ("Cast", {"to": TensorProto.FLOAT16}, []),
            ("Cast", {"to": TensorProto.FLOAT}, []),
            ("Mul", {}, [graph.constant(1 / scale)]),
        )

    return edit


def _quantized_table(graph: Graph) -> None:
    """The embeddings as int8, with a scale that cuts off everything beyond a third of the largest value."""
    gather = next(node for node in graph.ops("Gather") if node.input[0].endswith("word_embeddings.weight"))
    table = graph.read(gather.input[0])
    scale = np.float32(np.abs(table).max() / 3 / 127)
    quantized = graph.constant(np.clip(np.round(table / scale), -127, 127), np.int8)
    inputs = [quantized, graph.constant(scale)]
    graph.nodes.insert(0, onnx.helper.make_node("DequantizeLinear", inputs, ["planted_table"]))
    gather.input[0] = "planted_table"


def _causal(graph: Graph) -> None:
    """Tokens see only those before them, as in a decoder."""
    next(item for item in graph.ops("Attention")[0].attribute if item.name == "unidirectional").i = 1


DEFECTS = (
    Defect(
        name="GELU is its tanh approximation",
        group="arithmetic",
        model="bert",
        plant=_inside(_tanh_gelu),
        check=HIDDEN,
        message=OFF,
        place=r"first departs in encoder\.layer\.0\.intermediate\.intermediate_act_fn \(GELUActivation\) at Gelu",
    ),
    Defect(
        name="GELU is ReLU",
        group="arithmetic",
        model="distilbert",
        plant=_inside(_relu),
        check="cosine.last_hidden_state",
        message=r"at .*, \[\d+, \d+\]$",
        place=r"first departs in transformer\.layer\.0\.ffn\.activation \(GELUActivation\) at Relu",
    ),
    Defect(
        name="the scale of attention is missing",
        group="arithmetic",
        model="bert",
        plant=_inside(_unscaled),
        check=HIDDEN,
        message=OFF,
        place=r"first departs in encoder\.layer\.0\.attention\.self .*right with one token",
    ),
    Defect(
        name="attention is causal",
        group="arithmetic",
        model="bert-fused",
        plant=_inside(_causal),
        check=HIDDEN,
        message=OFF,
    ),
    Defect(
        name="dropout is on",
        group="arithmetic",
        model="roberta",
        plant=_inside(_dropout),
        check="deterministic",
        message=r"at last_hidden_state, right padding 3x9",
        also=(HIDDEN,),
    ),
    Defect(
        name="a normalization sees the whole batch",
        group="arithmetic",
        model="distilbert",
        plant=_inside(_centred_over_rows),
        check="batch invariance",
        message=r"at last_hidden_state, right padding 3x9",
        also=(HIDDEN,),
    ),
    Defect(
        name="activations overflow in fp16",
        group="precision",
        model="bert",
        plant=_inside(_through_fp16(65536.0)),
        check="finite.last_hidden_state",
        message=r"onnx nan, torch",
    ),
    Defect(
        name="activations are rounded to fp16",
        group="precision",
        model="bert",
        plant=_inside(_through_fp16(1.0)),
        check=HIDDEN,
        message=OFF,
    ),
    Defect(
        name="embeddings as int8, cut off at a third of their range",
        group="precision",
        model="bert-optimum",
        plant=_inside(_quantized_table),
        check=HIDDEN,
        message=OFF,
        place=r"first departs in embeddings\.word_embeddings",
    ),
)
