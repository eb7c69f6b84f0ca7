"""What a graph in reduced precision is allowed, by what it costs where its accuracy is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.parity import Finding, Rule, Usual, Values, parity, worst_of
from modelbuild.reduced import Reduced

Array = npt.NDArray[Any]

RULE = Reduced(min_cosine=0.98, min_top_1=0.9, floor=1e-6)
REFERENCE: Array = np.arange(1.0, 9.0).reshape(2, 4)


def values(candidate: Array) -> Values:
    valid = np.array([True, True])
    return Values(output="y", case="text", candidate=candidate, reference=REFERENCE, oracle=None, valid=valid)


def off(by: float) -> Values:
    candidate = REFERENCE.copy()
    candidate[1, 2] += by
    return values(candidate)


USUAL = Usual().judged(off(0.5)).judged(off(0.25))


def test_what_is_usual_is_the_largest_error_where_it_is_judged() -> None:
    usual = Usual().judged(off(0.5)).judged(off(0.25))
    assert (usual.error, usual.scale) == (0.5, 8.0)


def test_a_value_that_is_not_finite_is_no_usual_error() -> None:
    assert Usual().judged(off(np.nan)).judged(off(np.inf)).error == 0


@pytest.mark.parametrize(("by", "passed"), [(1.49, True), (1.51, False), (np.nan, False), (np.inf, False)])
def test_three_times_what_is_usual_is_allowed_anywhere_and_no_more(by: float, passed: bool) -> None:
    found: list[Finding] = parity(off(by), RULE, USUAL)
    assert worst_of(found)[0].passed is passed
    assert found[0].limit == pytest.approx(1.5, rel=1e-4)


def test_what_is_tried_later_does_not_widen_what_is_usual() -> None:
    assert RULE.seen(USUAL, off(9.0)) == USUAL


def test_nothing_is_allowed_before_anything_was_judged() -> None:
    assert not worst_of(parity(off(1e-6), RULE, Usual()))[0].passed


def test_the_same_again_is_the_same_and_rows_beside_others_may_be_off() -> None:
    assert RULE.between(off(0), USUAL, again=True) == pytest.approx(8e-6)
    assert RULE.between(off(0), USUAL, again=False) == pytest.approx(1.5, rel=1e-4)


def test_tokens_may_differ_by_the_share_that_was_asked_and_none_is_a_tie() -> None:
    assert [RULE.other_tokens(count) for count in (0, 9, 10, 96)] == [0, 0, 1, 9]
    assert RULE.tie(0.5) < 0
    exact = Rule(oracle_factor=4, floor=1e-6)
    assert (exact.other_tokens(96), exact.tie(0.5)) == (0, 1.0)


def test_modules_may_be_off_the_more_the_less_was_asked() -> None:
    assert RULE.slack == pytest.approx(0.4)
    assert Rule(oracle_factor=4, floor=1e-6).slack == 0
