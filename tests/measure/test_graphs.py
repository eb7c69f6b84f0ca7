"""What a graph is given in a benchmark: shapes, phases, and what is too long for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.measure.graphs import Case, MeasuredGraph, Shape, shapes_of
from modelbuild.spec import Benchmark

BATCH, LENGTH = Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length", largest=32)
IDS = Input(name="input_ids", dtype="int64", shape=("batch", "sequence"), content="token_ids", below=10)
PIXELS = Input(name="pixel_values", dtype="float32", shape=("batch", 3, 8, 8))
TEXT = Interface(axes=(BATCH, LENGTH), inputs=(IDS,), outputs=(Output(name="x", shape=("batch", "sequence")),))
IMAGES = Interface(axes=(BATCH,), inputs=(PIXELS,), outputs=(Output(name="x", shape=("batch",)),))
CACHE = Input(name="cache", dtype="float32", shape=("batch", 2, "past", 4))


def decoder(smallest: int) -> Interface:
    past = Axis(name="past", kind="past", smallest=smallest)
    total = Axis(name="total", kind="sum", largest=32, parts=("past", "sequence"))
    mask = Input(name="attention_mask", dtype="int64", shape=("batch", "total"), content="attention_mask")
    return TEXT.model_copy(update={"axes": (BATCH, LENGTH, past, total), "inputs": (IDS, mask, CACHE)})


def cases(interface: Interface, *shapes: Shape, several: bool = False) -> list[Case]:
    file = Path("model.onnx")
    graph = MeasuredGraph(name="text", several=several, file=file, interface=interface)
    return list(graph.cases(shapes, np.random.default_rng(0)))


def labels(interface: Interface, *shapes: Shape, several: bool = False) -> list[str]:
    return [case.label for case in cases(interface, *shapes, several=several)]


def test_every_batch_size_meets_every_length() -> None:
    plan = Benchmark(kind="full", batch_sizes=(1, 4), sequence_lengths=(16, 128))
    assert shapes_of(plan) == ((1, 16), (4, 16), (1, 128), (4, 128))


def test_a_case_says_its_shape_and_its_inputs_have_it() -> None:
    (case,) = cases(TEXT, (4, 16))
    assert (case.label, case.batch, case.length, case.phase) == ("b4_s16", 4, 16, "")
    assert case.inputs["input_ids"].shape == (4, 16)


def test_one_graph_of_several_is_named() -> None:
    assert labels(TEXT, (1, 16), several=True) == ["text_b1_s16"]


def test_lengths_that_are_cut_to_the_same_are_measured_once_and_said() -> None:
    assert labels(TEXT, (1, 16), (1, 64), (1, 128), (2, 64)) == ["b1_s16", "b1_s32", "b2_s32"]
    graph = MeasuredGraph(name="text", several=False, file=Path("a"), interface=TEXT)
    assert graph.cut((16, 32, 64)) == ["text takes 32 positions at most: 32, not 64, measured"]


def test_images_have_no_length_and_none_is_cut() -> None:
    assert labels(IMAGES, (1, 16), (4, 16), (1, 128), (4, 128)) == ["b1", "b4"]
    graph = MeasuredGraph(name="image", several=False, file=Path("a"), interface=IMAGES)
    assert graph.cut((16, 65536)) == []


def test_a_batch_that_the_graph_does_not_take_is_not_claimed() -> None:
    alone = TEXT.model_copy(update={"axes": (BATCH.model_copy(update={"largest": 1}), LENGTH)})
    assert labels(alone, (1, 16), (4, 16)) == ["b1_s16"]


def test_a_decoder_reads_and_then_makes_one_token_after_as_many_as_fit() -> None:
    found = cases(decoder(0), (1, 16), (1, 64))
    assert [case.label for case in found] == ["prefill_b1_s16", "prefill_b1_s32", "decode_b1_s16", "decode_b1_s31"]
    assert [case.inputs["input_ids"].shape[1] for case in found] == [16, 32, 1, 1]
    assert [case.inputs["cache"].shape[2] for case in found] == [0, 0, 16, 31]


def test_a_decoder_that_needs_a_cache_only_decodes() -> None:
    assert labels(decoder(1), (1, 16)) == ["decode_b1_s16"]
