"""Defects in what is dynamic: axes that are not, sizes that were taken for constants when the model was traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from defects.defect import Defect
from defects.graphs import Graph, edited
from defects.models import Build, export_again
from defects.weights import HIDDEN
from transformers.models.bert.modeling_bert import BertEmbeddings
from transformers.models.distilbert.modeling_distilbert import Embeddings

# What Optimum traces with, and validates with.
_TRACED_BATCH, _TRACED_SEQUENCE = 2, 16


def _interface(change: Callable[[onnx.TypeProto.Tensor], None]) -> Callable[[Build], None]:
    """Change the declared shape of every input and output."""

    def plant(build: Build) -> None:
        with edited(build.folders["optimize"]) as graph:
            for value in (*graph.model.graph.input, *graph.model.graph.output):
                change(value.type.tensor_type)

    return plant


def _inside(change: Callable[[Graph], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        with edited(build.folders["optimize"]) as graph:
            change(graph)

    return plant


def _size(axis: int, value: int) -> Callable[[onnx.TypeProto.Tensor], None]:
    def change(tensor: onnx.TypeProto.Tensor) -> None:
        tensor.shape.dim[axis].dim_value = value

    return change


def _name(axis: int, name: str) -> Callable[[onnx.TypeProto.Tensor], None]:
    def change(tensor: onnx.TypeProto.Tensor) -> None:
        if axis < len(tensor.shape.dim):
            tensor.shape.dim[axis].dim_param = name

    return change


def _frozen_positions(graph: Graph) -> None:
    positions = next(node for node in graph.ops("Gather") if node.input[0].endswith("position_embeddings.weight"))
    positions.input[1] = graph.constant(np.arange(_TRACED_SEQUENCE)[None], np.int64)


def _frozen_batch(graph: Graph) -> None:
    """The first view of the attention has the number of rows that it was traced with."""
    view = next(node for node in graph.ops("Concat") if "attention/self" in node.name)
    view.input[0] = graph.constant([_TRACED_BATCH], np.int64)


def _frozen_sequence(graph: Graph) -> None:
    """The last view of the attention has the number of tokens that it was traced with."""
    view = next(node for node in graph.ops("Concat") if "attention/self" in node.name and len(node.input) == 3)
    view.input[1] = graph.constant([_TRACED_SEQUENCE], np.int64)


def _clipped_positions(graph: Graph) -> None:
    """Tokens beyond the maximum get the position of the last one."""
    positions = next(node for node in graph.ops("Gather") if node.input[0].endswith("position_embeddings.weight"))
    graph.before(positions, 1, "Min", graph.constant(25, np.int64))


def _branch(owner: type[Any], axis: int, above: int) -> Callable[[], Any]:
    """A model that does something else for large inputs, which a trace of a small one does not see."""

    @contextmanager
    def original() -> Iterator[None]:
        unpatched = owner.forward

        def forward(self: Any, *arguments: Any, **named: Any) -> Any:
            hidden = unpatched(self, *arguments, **named)
            if hidden.shape[axis] > above:
                hidden = hidden * 0.5
            return hidden

        owner.forward = forward
        try:
            yield
        finally:
            owner.forward = unpatched

    return original


DEFECTS = (
    Defect(
        name="the batch is frozen in the interface",
        group="shapes",
        model="bert",
        plant=_interface(_size(0, 3)),
        check="symbolic axes",
        message=r"input_ids \(3, 'sequence'\).*last_hidden_state \(3, 'sequence', 32\)",
    ),
    Defect(
        name="the sequence is frozen in the interface",
        group="shapes",
        model="bert-answers",
        plant=_interface(_size(1, _TRACED_SEQUENCE)),
        check="symbolic axes",
        message=r"input_ids \('batch', 16\).*end_logits \('batch', 16\)",
    ),
    Defect(
        name="the batch is frozen inside, in a view, at the traced size",
        group="shapes",
        model="bert-optimum",
        plant=_inside(_frozen_batch),
        check=HIDDEN,
        message=r"5x1: does not run: .*(Reshape|shape|dimension)",
        place=r"the graph does not run: ",
    ),
    Defect(
        name="the sequence is frozen inside, in a view, at the traced size",
        group="shapes",
        model="bert-answers",
        plant=_inside(_frozen_sequence),
        check="parity.start_logits",
        message=r"5x1: does not run: .*(Reshape|shape|dimension)",
        place=r"the graph does not run: ",
    ),
    Defect(
        name="the position ids are frozen at the traced length",
        group="shapes",
        model="bert-optimum",
        plant=_inside(_frozen_positions),
        check=HIDDEN,
        message=r"(does not run: .*|shape \(5, 16, 32\), PyTorch )",
        place=r"first departs in embeddings\.position_embeddings",
    ),
    Defect(
        name="a branch on the batch size, taken at trace time (TorchScript)",
        group="shapes",
        model="bert-optimum",
        plant=export_again,
        original=_branch(BertEmbeddings, 0, 4),
        check=HIDDEN,
        message=r" at [a-z ]+ 5x\d+, ",
        place=r"first departs in embeddings \(BertEmbeddings\)",
    ),
    Defect(
        name="a branch on the length, taken at trace time (TorchScript)",
        group="shapes",
        model="bert-classifier",
        plant=export_again,
        original=_branch(BertEmbeddings, 1, _TRACED_SEQUENCE),
        check="parity.logits",
        message=r" at [a-z ]+ \dx2\d, ",
        place=r"first departs in bert\.embeddings \(BertEmbeddings\)",
    ),
    Defect(
        name="a branch on the batch size, taken at trace time (dynamo)",
        group="shapes",
        model="distilbert",
        plant=lambda build: None,
        original=_branch(Embeddings, 0, 4),
        stage="export",
        check="ExportError",
        message=r"the model branches on batch: what was exported holds for 0 to 4 only",
        optimum="found before there is a graph",
    ),
    Defect(
        name="batch and sequence have one name",
        group="shapes",
        model="albert",
        plant=_interface(_name(1, "batch")),
        check="symbolic axes",
        message=r"input_ids \('batch', 'batch'\)",
    ),
    Defect(
        name="axes have names of their own",
        group="shapes",
        model="roberta",
        plant=_interface(_name(1, "tokens")),
        check="symbolic axes",
        message=r"input_ids \('batch', 'tokens'\)",
    ),
    Defect(
        name="positions beyond the maximum are clipped, and something is computed",
        group="shapes",
        model="roberta",
        plant=_inside(_clipped_positions),
        check="beyond maximum",
        message=r"PyTorch refuses it, and the graph computes something$",
    ),
)
