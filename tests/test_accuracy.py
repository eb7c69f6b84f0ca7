"""How much of a model's meaning a candidate keeps, by figures and by a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.accuracy import Accuracy, accuracy_of
from modelbuild.interface import Axis, Input, Interface, Meaning, Output
from modelbuild.precision_spec import Int8Precision
from modelbuild.samples import Batch

Array = npt.NDArray[Any]

ASKED = Int8Precision(kind="int8", min_cosine=0.99, min_top_1=0.75, max_fp32_layers=0)
MASK = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 0]])
VECTORS: Array = np.random.default_rng(0).standard_normal((4, 3, 8)).astype(np.float32)


def taken(meaning: Meaning, *shape: str) -> Interface:
    return Interface(
        inputs=(
            Input(name="mask", dtype="int64", shape=("batch", "sequence"), content="attention_mask"),
            Input(name="ids", dtype="int64", shape=("batch", "sequence"), content="token_ids", below=9),
        ),
        outputs=(Output(name="y", shape=shape, meaning=meaning), Output(name="cache", shape=("batch",))),
        axes=(Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length")),
    )


TOKENS = taken("embeddings", "batch", "sequence")
CLASSES = taken("scores", "batch")
POSITIONS = taken("scores", "batch", "sequence")


def judged(interface: Interface, reference: Array, candidate: Array) -> Accuracy:
    batch = Batch(kind="text", interface=interface, inputs={"mask": MASK, "ids": np.ones_like(MASK)})
    pairs: list[tuple[Batch, Mapping[str, Array], Mapping[str, Array]]] = [
        (batch, {"y": reference, "cache": MASK}, {"y": candidate, "cache": 7 * MASK})
    ]
    return accuracy_of(interface, pairs, ASKED)


def turned(row: int, angle: float) -> Array:
    """The vectors with those of one row turned in the plane of the row's mean and something across it."""
    found = VECTORS.astype(np.float64)
    mean = found[row][MASK[row].astype(bool)].mean(axis=0)
    across = np.roll(mean, 1) - mean * (np.roll(mean, 1) @ mean) / (mean @ mean)
    across *= np.linalg.norm(mean) / np.linalg.norm(across)
    found[row] += (np.cos(angle) - 1) * mean + np.sin(angle) * across
    return found


def test_what_is_equal_keeps_everything_and_outputs_without_a_meaning_do_not_matter() -> None:
    found = judged(TOKENS, VECTORS, VECTORS)
    assert found.kept
    assert found.worst == pytest.approx(0.01)
    assert found.facts() == {
        "y": {
            "compared": 4,
            "asked": 0.99,
            "worst_cosine": pytest.approx(1),
            "mean_cosine": pytest.approx(1),
            "rank": 1,
        }
    }


@pytest.mark.parametrize(("cosine", "kept"), [(0.9901, True), (0.9899, False)])
def test_a_sentence_may_turn_as_far_as_was_asked_and_no_further(cosine: float, kept: bool) -> None:
    found = judged(TOKENS, VECTORS, turned(2, np.arccos(cosine)))
    assert found.kept is kept
    assert found.worst == pytest.approx(cosine - 0.99, abs=1e-6)
    (check,) = found.checks("sentences")
    assert (check.name, check.passed, check.compared) == ("accuracy.y", kept, "4 sentences")
    assert check.worst == pytest.approx(1 - cosine, abs=1e-6)
    assert check.limit == pytest.approx(0.01)
    assert check.where == f"text 4x3, row 2: cosine {cosine}"


def test_what_is_padding_does_not_turn_a_sentence() -> None:
    assert judged(TOKENS, VECTORS, np.where(MASK[:, :, None], VECTORS, 1e6)).kept


def test_rank_falls_where_neighbours_change_places() -> None:
    found = judged(TOKENS, VECTORS, turned(2, 1.2)).facts()["y"]
    assert found["rank"] < 0.95


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("interface", [TOKENS, POSITIONS])
def test_a_value_that_is_not_finite_keeps_nothing(bad: float, interface: Interface) -> None:
    broken = VECTORS.copy()
    broken[0, 0, 0] = bad
    found = judged(interface, VECTORS, broken)
    assert not found.kept
    assert found.worst == -np.inf
    assert found.checks("sentences")[0].where == "text 4x3: another shape, or not finite"


def test_another_shape_keeps_nothing() -> None:
    assert not judged(TOKENS, VECTORS, VECTORS[:, :2]).kept


def test_nothing_compared_is_not_kept() -> None:
    found = accuracy_of(TOKENS, [], ASKED)
    assert not found.kept
    assert found.checks("sentences")[0].where == "nothing was compared"


LOGITS: Array = np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(("flipped", "kept"), [(0, True), (1, True), (2, False)])
def test_so_many_classes_may_be_others_as_was_asked(flipped: int, kept: bool) -> None:
    candidate = LOGITS.copy()
    candidate[:flipped] = candidate[:flipped, ::-1]
    found = judged(CLASSES, LOGITS, candidate)
    assert found.kept is kept
    assert found.facts()["y"]["top_1"] == 1 - flipped / 4
    assert found.line("sentences").startswith(f"top 1 {1 - flipped / 4:.4f} of 4 best classes, mean KL ")
    (check,) = found.checks("sentences")
    assert check.where == ("text 4x3, [0]: 1, the original's 0" if flipped else "")


def test_divergence_is_told_where_every_class_is_right() -> None:
    found = judged(CLASSES, LOGITS, 2 * LOGITS).facts()["y"]
    assert found["top_1"] == 1
    assert 0 < found["mean_KL"] < found["largest_KL"]


def test_a_class_at_every_position_counts_where_there_is_a_token() -> None:
    candidate = np.where(MASK[:, :, None], VECTORS, -VECTORS)
    assert judged(POSITIONS, VECTORS, candidate).facts()["y"] == {
        "compared": MASK.sum(), "asked": 0.75, "top_1": 1, "mean_KL": 0, "largest_KL": 0,
    }  # fmt: skip


def test_scores_of_positions_are_one_class_for_each_row() -> None:
    found = judged(POSITIONS, VECTORS[:, :, 0], VECTORS[:, :, 0]).facts()["y"]
    assert (found["compared"], found["top_1"]) == (4, 1)


def test_where_no_output_has_a_meaning_all_of_them_matter() -> None:
    assert set(judged(taken("values", "batch", "sequence"), VECTORS, VECTORS).facts()) == {"y", "cache"}
