"""What both sides are run on: the longest that a model takes, in every way, and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checks.plain_graphs import plain_runs
from onnx import helper
from tiny_tokenizers import save_wordpiece

from modelbuild.checks.runs import batches_of
from modelbuild.component import Tensors
from modelbuild.interface import Axis, Content, Input, Interface, Output
from modelbuild.report import Report, write_report
from modelbuild.samples import Batch

BATCH = Axis(name="batch", kind="batch")


def nothing(inputs: Tensors) -> Tensors:
    return inputs


def batches(folder: Path, taken: Interface, **validation: Any) -> list[Batch]:
    runs = plain_runs(folder, taken, nothing, [helper.make_node("Neg", ["ids"], ["y"])], **validation)
    return list(batches_of(runs.subject))


def value(name: str, content: Content, *shape: str) -> Input:
    return Input(name=name, dtype="int64", shape=shape, content=content, below=64 if content == "token_ids" else 0)


def cached(largest: int | None) -> Interface:
    """Tokens after a cache, as a decoder takes them."""
    past = Axis(name="past", kind="past", smallest=0, largest=None if largest is None else largest - 1)
    return Interface(
        inputs=(
            value("ids", "token_ids", "batch", "sequence"),
            value("attention_mask", "attention_mask", "batch", "total"),
            Input(name="cache", dtype="float32", shape=("batch", "past")),
        ),
        outputs=(Output(name="y", shape=("batch", "sequence")),),
        axes=(
            BATCH,
            Axis(name="sequence", kind="length", largest=largest),
            past,
            Axis(name="total", kind="sum", largest=largest, parts=("past", "sequence")),
        ),
    )


def test_the_maximum_is_tried_in_one_piece_and_as_one_token_after_a_full_cache(tmp_path: Path) -> None:
    found = [batch.sizes for batch in batches(tmp_path, cached(16), include_maximum=True)]
    full = [(sizes["sequence"], sizes["past"]) for sizes in found if sizes["total"] == 16]
    assert (16, 0) in full
    assert (1, 15) in full


def test_a_cache_without_a_limit_is_filled_as_far_as_anything_is_tried(tmp_path: Path) -> None:
    found = [batch.sizes for batch in batches(tmp_path, cached(None), include_maximum=True)]
    assert max(sizes["past"] for sizes in found if sizes["sequence"] == 1) == 512


def test_no_cache_is_filled_where_the_maximum_is_not_asked_for(tmp_path: Path) -> None:
    found = [batch.sizes for batch in batches(tmp_path, cached(256), include_maximum=False, sequence_lengths=(3,))]
    assert max(sizes["past"] for sizes in found) == 3


@pytest.mark.slow
def test_texts_are_cut_where_the_tokens_axis_ends_whatever_it_is_called(tmp_path: Path) -> None:
    save_wordpiece(tmp_path)
    write_report(Report(stage="sidecar", facts={"tokenizer": True}), tmp_path / "report.json")
    taken = Interface(
        inputs=(
            value("input_ids", "token_ids", "batch", "tokens"),
            value("attention_mask", "attention_mask", "batch", "tokens"),
            Input(name="frames", dtype="float32", shape=("batch", "times")),
        ),
        outputs=(Output(name="y", shape=("batch", "tokens")),),
        axes=(
            BATCH,
            Axis(name="tokens", kind="length", largest=7),
            Axis(name="times", kind="length", largest=40),
        ),
    )
    texts = [batch for batch in batches(tmp_path, taken) if batch.kind.startswith("text with ")]
    assert [(batch.kind, batch.sizes["tokens"]) for batch in texts] == [
        ("text with right padding", 7),
        ("text with left padding", 7),
    ]
