"""Defects in the weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from defects.defect import Defect
from defects.graphs import Array, Graph, edited
from defects.models import Build, make
from tiny_models import WEIGHTS_FILE

from modelbuild.graph import MODEL_FILE

HIDDEN = "parity.last_hidden_state"
OFF = r"onnx -?[\d.e-]+, torch -?[\d.e-]+$"


def change(tensor: str | Callable[[Graph], str], by: Callable[[Array], Any]) -> Callable[[Build], None]:
    """A plant that changes one tensor, named by the end of its name or found in the graph."""

    def plant(build: Build) -> None:
        with edited(build.folders["optimize"]) as graph:
            graph.change(tensor if isinstance(tensor, str) else tensor(graph), by)

    return plant


def add(index: Any, value: float) -> Callable[[Array], None]:
    """Add `value` at `index`."""

    def by(values: Array) -> None:
        values[index] += value

    return by


def put(index: Any, value: float) -> Callable[[Array], None]:
    """Put `value` at `index`."""

    def by(values: Array) -> None:
        values[index] = value

    return by


def _first(*shape: int) -> Callable[[Graph], str]:
    return lambda graph: graph.weights(*shape)[0]


def _layers_swapped(build: Build) -> None:
    """The two feed-forward layers, each in the other's place."""
    with edited(build.folders["optimize"]) as graph:
        first, second = graph.weights(32, 48)
        kept = graph.read(first)
        other = graph.read(second)
        graph.change(first, lambda _: other)
        graph.change(second, lambda _: kept)


def _rows_swapped(values: Array) -> Array:
    order = np.arange(len(values))
    order[[3, 4]] = [4, 3]
    return np.ascontiguousarray(values[order])


def _epsilon(build: Build) -> None:
    with edited(build.folders["optimize"]) as graph:
        for node in graph.ops("LayerNormalization"):
            next(item for item in node.attribute if item.name == "epsilon").f = 1e-5


def _untied(build: Build) -> None:
    """The decoder has a matrix of its own, where the original uses the embeddings."""
    with edited(build.folders["optimize"]) as graph:
        decoder = graph.ops("Transpose")[-1]
        table = graph.read(decoder.input[0])
        decoder.input[0] = graph.constant(np.random.default_rng(0).normal(0, 0.2, table.shape))


def _another_seed(build: Build) -> None:
    """The export of a model that was drawn from another seed."""
    another = build.folders["optimize"].parent / "another"
    made = make(replace(build.model, seed=1), another)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        shutil.copyfile(made.folders["optimize"] / name, build.folders["optimize"] / name)


def _bfloat16(build: Build) -> None:
    """Every weight rounded to bfloat16, and kept as fp32."""
    with edited(build.folders["optimize"]) as graph:
        for tensor in graph.model.graph.initializer:
            if graph.read(tensor.name).dtype == np.float32:
                graph.change(tensor.name, lambda values: (values.view(np.uint32) & 0xFFFF0000).view(np.float32))


def _next(index: tuple[int, int]) -> Callable[[Array], None]:
    """The next float: a change that no output shows."""

    def by(values: Array) -> None:
        values[index] = np.nextafter(values[index], np.float32(np.inf))

    return by


DEFECTS = (
    Defect(
        name="one weight of 1536 is the next float",
        group="weights",
        model="bert",
        plant=change(_first(32, 48), _next((3, 7))),
        check="weights",
        message=r"weights: 1 \(limit 0\) at ",
    ),
    Defect(
        name="one weight of the packed query, key and value is the next float",
        group="weights",
        model="bert-fused",
        plant=change("Attention_1_qkv_weight", _next((3, 70))),
        check="weights",
        message=r"weights: 1 \(limit 0\) at Attention_1_qkv_weight",
    ),
    Defect(
        name="one value of the embeddings is the next float",
        group="weights",
        model="distilbert-classifier",
        plant=change("word_embeddings.weight", _next((271, 5))),
        check="weights",
        message=r"weights: 1 \(limit 0\) at distilbert\.embeddings\.word_embeddings\.weight",
    ),
    Defect(
        name="one weight of 1536 off by 0.001",
        group="weights",
        model="bert",
        plant=change(_first(32, 48), add((3, 7), 1e-3)),
        check="weights",
        message=r"weights: 1 \(limit 0\) at .*encoder\.layer\.0\.intermediate\.dense\.weight\[",
        also=(HIDDEN,),
        place=r"first departs in encoder\.layer\.0\.intermediate\.dense \(Linear\)",
    ),
    Defect(
        name="one row of a weight off by 1 %",
        group="weights",
        model="bert-optimum",
        plant=change(
            _first(48, 32), lambda values: values * np.where(np.arange(48) == 7, 1.01, 1)[:, None].astype("f")
        ),
        check=HIDDEN,
        message=OFF,
    ),
    Defect(
        name="the embedding of one token of 300 off",
        group="weights",
        model="bert",
        plant=change("word_embeddings.weight", add((271, 5), 0.01)),
        check="weights",
        message=r"weights: 1 \(limit 0\) at .*word_embeddings\.weight\[",
        also=(HIDDEN,),
        place=r"first departs in embeddings\.word_embeddings .*wrong with embeddings; right with",
    ),
    Defect(
        name="the embedding of the last position off",
        group="weights",
        model="distilbert",
        plant=change("position_embeddings.weight", add((23, 5), 0.01)),
        check=HIDDEN,
        message=rf"at (no padding|embeddings) \dx24, \[\d+, 23, \d+\]: {OFF}",
        place=r"first departs in embeddings\.position_embeddings .*wrong with no padding, embeddings; right with",
    ),
    Defect(
        name="the embedding of the last position off (positions after the padding id)",
        group="weights",
        model="roberta",
        plant=change("position_embeddings.weight", add((25, 5), 0.01)),
        check=HIDDEN,
        message=rf"at (no padding|embeddings) \dx24, \[\d+, 23, \d+\]: {OFF}",
        place=r"first departs in embeddings\.position_embeddings .*wrong with no padding, embeddings; right with",
    ),
    Defect(
        name="the embedding of token type 1 zeroed",
        group="weights",
        model="bert-optimum",
        plant=change("token_type_embeddings.weight", put(1, 0)),
        check="weights",
        message=r"weights: 32 \(limit 0\) at .*token_type_embeddings\.weight\[1, 0\]",
        also=(HIDDEN,),
    ),
    Defect(
        name="the feed-forward weights of two layers swapped",
        group="weights",
        model="bert-optimum",
        plant=_layers_swapped,
        check=HIDDEN,
        message=OFF,
        place=r"first departs in encoder\.layer\.0\.intermediate\.dense \(Linear\)",
    ),
    Defect(
        name="two rows swapped in the packed query, key and value",
        group="weights",
        model="bert-fused",
        plant=change("Attention_1_qkv_weight", _rows_swapped),
        check="weights",
        message=r"weights: 192 \(limit 0\) at .*encoder\.layer\.1\.attention\.self\.query\.weight\[",
        also=(HIDDEN,),
        place=r"first departs in encoder\.layer\.1\.attention\.self",
    ),
    Defect(
        name="the epsilon of layer normalization is PyTorch's default, 1e-5",
        group="weights",
        model="bert",
        plant=_epsilon,
        check=HIDDEN,
        message=OFF,
        place=r"first departs in embeddings\.LayerNorm \(LayerNorm\)",
    ),
    Defect(
        name="one gain of a layer normalization off by 0.01",
        group="weights",
        model="roberta",
        plant=change("attention.output.LayerNorm.weight", add(5, 0.01)),
        check="weights",
        message=r"weights: 1 \(limit 0\) at .*encoder\.layer\.0\.attention\.output\.LayerNorm\.weight\[",
        also=(HIDDEN,),
        place=r"first departs in encoder\.layer\.0\.attention\.output\.LayerNorm \(LayerNorm\)",
    ),
    Defect(
        name="a bias zeroed",
        group="weights",
        model="bert-answers",
        plant=change("layer.1.output.dense.bias", put(slice(None), 0)),
        check="weights.unaccounted",
        message=r"no weight of the graph comes from bert\.encoder\.layer\.1\.output\.dense\.bias",
        also=("parity.start_logits",),
        place=r"first departs in bert\.encoder\.layer\.1\.output\.dense \(Linear\)",
    ),
    Defect(
        name="the decoder is no longer tied to the embeddings",
        group="weights",
        model="bert-fill-mask",
        plant=_untied,
        check="top-1.logits",
        message=r"at .*, \[\d+, \d+\]: onnx \d+, torch \d+$",
        place=r"first departs in cls\.predictions\.decoder \(Linear\)",
    ),
    Defect(
        name="a shared layer of ALBERT off in one weight",
        group="weights",
        model="albert",
        plant=change(_first(32, 48), add((3, 7), 1e-3)),
        check="weights",
        message=r"weights: 1 \(limit 0\) at .*albert_layers\.0\.ffn\.weight\[",
        also=("parity.logits",),
        place=r"first departs in albert\.encoder\.albert_layer_groups\.0\.albert_layers\.0\.ffn \(Linear\)",
    ),
    Defect(
        name="weights of a model from another seed",
        group="weights",
        model="bert-optimum",
        plant=_another_seed,
        check=HIDDEN,
        message=OFF,
        place=r"first departs in embeddings\.word_embeddings",
    ),
    Defect(
        name="weights rounded to bfloat16",
        group="precision",
        model="bert-answers",
        plant=_bfloat16,
        check="weights",
        message=r"weights: 2\d{4} \(limit 0\) at .*word_embeddings\.weight\[",
        also=("parity.end_logits",),
        place=r"first departs in bert\.embeddings\.word_embeddings",
    ),
)
