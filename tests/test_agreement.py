from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.agreement import embeddings, scores
from modelbuild.parity import Finding, Rule, Values

Array = npt.NDArray[Any]
RULE = Rule(oracle_factor=4.0, floor=1e-6)
LOGITS: Array = np.array([[1.0, 3.0, 2.0], [5.0, -1.0, 0.0]])
ROWS = np.array([True, True])


def values(candidate: Array, reference: Array, *, valid: Array | None = None, oracle: Array | None = None) -> Values:
    return Values(
        output="out",
        case="left padding 2x3",
        candidate=candidate,
        reference=reference,
        oracle=oracle,
        valid=np.ones(len(reference), dtype=bool) if valid is None else valid,
    )


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def of_scores(candidate: Array, **other: Any) -> dict[str, Finding]:
    return by_name(list(scores(values(candidate, LOGITS, oracle=LOGITS, **other), RULE, 0.1)))


def test_equal_scores_agree() -> None:
    found = of_scores(LOGITS)
    assert set(found) == {"top-1.out", "KL.out"}
    assert all(finding.badness == 0 or finding.value <= 1e-12 for finding in found.values())


def test_another_class_is_found_with_both() -> None:
    found = of_scores(np.array([[1.0, 3.0, 2.0], [5.0, 6.0, 0.0]]))
    assert found["top-1.out"].value == 1
    assert found["top-1.out"].badness == np.inf
    assert found["top-1.out"].where == "left padding 2x3, [1]: onnx 1, torch 0"
    assert found["KL.out"].badness > 1


def test_a_flip_between_classes_that_pytorch_cannot_tell_apart_does_not_count() -> None:
    close: Array = np.array([[1.0, 3.0, 3.05], [5.0, -1.0, 0.0]])
    (top, *_) = scores(values(LOGITS, close), RULE, 0.1)
    assert top.value == 0
    (top, *_) = scores(values(LOGITS, close), RULE, 0.01)
    assert top.value == 1


def test_a_shift_of_all_scores_is_no_divergence_and_a_scale_is() -> None:
    assert of_scores(LOGITS + 7)["KL.out"].badness < 1
    assert of_scores(LOGITS * 2)["KL.out"].badness > 1


def test_positions_that_are_padding_do_not_count() -> None:
    reference = np.stack([LOGITS, LOGITS])
    candidate = reference.copy()
    candidate[1, 1] = [0, 9, 0]
    valid = np.array([[True, True], [True, False]])
    found = by_name(list(scores(values(candidate, reference, valid=valid, oracle=reference), RULE, 0.1)))
    assert found["top-1.out"].value == 0
    assert found["KL.out"].badness < 1
    found = by_name(list(scores(values(candidate, reference, valid=~valid, oracle=reference), RULE, 0.1)))
    assert found["top-1.out"].where.startswith("left padding 2x3, [1, 1]")


def vectors(*angles: float) -> Array:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)[:, None, :]


TOKENS = np.ones((3, 1), dtype=bool)


def of_embeddings(candidate: Array, reference: Array, **other: Any) -> dict[str, Finding]:
    return by_name(list(embeddings(values(candidate, reference, valid=TOKENS, **other), RULE)))


def test_a_turned_vector_is_found_and_a_longer_one_is_not() -> None:
    reference = vectors(0.0, 0.5, 1.5)
    assert of_embeddings(3 * reference, reference, oracle=reference)["cosine.out"].badness < 1
    turned = of_embeddings(vectors(0.0, 0.6, 1.5), reference, oracle=reference)["cosine.out"]
    assert turned.badness > 1
    assert turned.value == pytest.approx(1 - np.cos(0.1))
    assert turned.where == "left padding 2x3, [1, 0]"


def test_neighbours_in_another_order_are_found() -> None:
    reference = vectors(0.0, 0.5, 0.6)
    assert of_embeddings(reference, reference)["rank.out"].value == 0
    swapped = of_embeddings(vectors(0.0, 0.6, 0.5), reference)["rank.out"]
    assert swapped.value == 1
    assert swapped.where == "left padding 2x3, neighbours of row 0"


def test_neighbours_that_are_equally_near_have_no_order() -> None:
    assert of_embeddings(vectors(0.0, 0.50002, 0.5), vectors(0.0, 0.5, 0.50001))["rank.out"].value == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_left_to_parity(bad: float) -> None:
    broken = LOGITS.copy()
    broken[0, 0] = bad
    assert not list(scores(values(broken, LOGITS, oracle=LOGITS), RULE, 0.1))
    assert not list(embeddings(values(broken[:, None], LOGITS[:, None], valid=TOKENS[:2]), RULE))
