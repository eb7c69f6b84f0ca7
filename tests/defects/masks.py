"""Defects in what becomes of the attention mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from defects.defect import Defect
from defects.graphs import Graph, edited
from defects.models import Build
from defects.weights import HIDDEN, OFF

from modelbuild.graph import MODEL_FILE


def _additive(graph: Graph) -> onnx.NodeProto:
    """The node that makes what is added to the scores: minus infinity where there is padding."""
    return graph.ops("Where")[-1]


def _changed(change: Callable[[Graph], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        with edited(build.folders["optimize"]) as graph:
            change(graph)

    return plant


def _ignored(graph: Graph) -> None:
    node = _additive(graph)
    graph.after(node.output[0], ("Mul", {}, [graph.constant(0.0)]))


def _shifted(graph: Graph) -> None:
    """Each token's mask is that of the token before it."""
    zero, one, end = (graph.constant([value], np.int64) for value in (0, 1, -1))
    axis = graph.constant([1], np.int64)
    head = graph.constant([0], np.int64)
    first = onnx.helper.make_node("Slice", ["attention_mask", zero, one, axis], ["planted_first"])
    rest = onnx.helper.make_node("Slice", ["attention_mask", head, end, axis], ["planted_rest"])
    joined = onnx.helper.make_node("Concat", ["planted_first", "planted_rest"], ["planted_mask"], axis=1)
    graph.rewire("attention_mask", "planted_mask")
    for position, node in enumerate((first, rest, joined)):
        if node.op_type == "Slice":
            node.input[0] = "attention_mask"
        graph.nodes.insert(position, node)


def _inverted(graph: Graph) -> None:
    graph.after("attention_mask", ("Sub", {}, [graph.constant(1, np.int64)]), ("Neg", {}, []))


def _weak(graph: Graph) -> None:
    """Padding is attended to less than tokens are, and not: not at all."""
    node = _additive(graph)
    node.input[1] = graph.constant(-10.0)


def _first_row(graph: Graph) -> None:
    """Every row has the mask of the first."""
    one = onnx.helper.make_node(
        "Slice",
        ["attention_mask", *(graph.constant([value], np.int64) for value in (0, 1, 0))],
        ["planted_row"],
    )
    shape = onnx.helper.make_node("Shape", ["attention_mask"], ["planted_shape"])
    expanded = onnx.helper.make_node("Expand", ["planted_row", "planted_shape"], ["planted_mask"])
    graph.rewire("attention_mask", "planted_mask")
    for position, node in enumerate((one, shape, expanded)):
        if node.op_type != "Expand":
            node.input[0] = "attention_mask"
        graph.nodes.insert(position, node)


def _right_padding(build: Build) -> None:
    """ONNX Runtime's own optimizer with its own defaults: the mask becomes a number of tokens for each row."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    optimized = optimize_model(
        str(build.folders["export"] / MODEL_FILE),
        model_type="bert",
        num_heads=2,
        hidden_size=32,
        optimization_options=FusionOptions("bert"),
        opt_level=0,
        use_gpu=False,
    )
    for name in build.folders["optimize"].glob("model.onnx*"):
        name.unlink()
    optimized.save_model_to_file(str(build.folders["optimize"] / MODEL_FILE))


# Padding of any kind shows what a mask does; a batch of full rows does not.
_PADDED = r"(right padding|left padding|holes in the mask|one token|an empty row|text with \w+ padding)"

DEFECTS = (
    Defect(
        name="the mask is ignored",
        group="masks",
        model="bert",
        plant=_changed(_ignored),
        check=HIDDEN,
        message=rf"at {_PADDED} .*{OFF}",
        place=r"first departs in encoder\.layer\.0\.attention\.self .*right with no padding, embeddings",
    ),
    Defect(
        name="right padding is assumed: ONNX Runtime's optimizer with its defaults",
        group="masks",
        model="bert-optimum",
        plant=_right_padding,
        check=HIDDEN,
        message=rf"at (left padding|holes in the mask|one token|an empty row) .*{OFF}",
        place=r"at com\.microsoft\.Attention.*; wrong with one token, left padding, holes in the mask; right",
    ),
    Defect(
        name="the mask is shifted by one token",
        group="masks",
        model="distilbert",
        plant=_changed(_shifted),
        check=HIDDEN,
        message=rf"at {_PADDED} .*{OFF}",
    ),
    Defect(
        name="the mask is inverted",
        group="masks",
        model="roberta",
        plant=_changed(_inverted),
        check=HIDDEN,
        message=OFF,
    ),
    Defect(
        name="padding is masked with -10 and not with minus infinity",
        group="masks",
        model="bert-optimum",
        plant=_changed(_weak),
        check=HIDDEN,
        message=rf"at {_PADDED} .*{OFF}",
        place=r"first departs in encoder\.layer\.0\.attention\.self .*right with no padding, embeddings",
    ),
    Defect(
        name="every row has the mask of the first",
        group="masks",
        model="bert-classifier",
        plant=_changed(_first_row),
        check="parity.logits",
        message=rf"at {_PADDED}.*{OFF}",
        place=r"first departs in bert\.encoder\.layer\.0\.attention\.self ",
    ),
)
