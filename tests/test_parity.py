from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.parity import Finding, Rule, Usual, Values, own_error, parity, worst_of

Array = npt.NDArray[Any]

ORACLE = Rule(oracle_factor=4.0, floor=1e-6)
VALID = np.array([[True, True, False], [True, False, False]])
ROWS = np.array([True, True])
TOKENS: Array = np.arange(1.0, 13.0).reshape(2, 3, 2)
LARGEST = 8.0  # the largest of TOKENS where VALID is
CLASSES: Array = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])


def values(candidate: Array, reference: Array = TOKENS, *, oracle: Array | None = None, valid: Array = VALID) -> Values:
    return Values(
        output="logits", case="left 2x3", candidate=candidate, reference=reference, oracle=oracle, valid=valid
    )


def found(
    candidate: Array,
    reference: Array = TOKENS,
    *,
    oracle: Array | None = None,
    valid: Array = VALID,
    rule: Rule = ORACLE,
) -> list[Finding]:
    truth = reference if oracle is None else oracle
    return parity(values(candidate, reference, oracle=truth, valid=valid), rule, Usual())


def compared(
    candidate: Array,
    reference: Array = TOKENS,
    *,
    oracle: Array | None = None,
    valid: Array = VALID,
    rule: Rule = ORACLE,
) -> Finding:
    return found(candidate, reference, oracle=oracle, valid=valid, rule=rule)[0]


def changed(array: Array, index: tuple[int, ...], value: float) -> Array:
    copy = array.copy()
    copy[index] = value
    return copy


def passes(*findings: Finding) -> bool:
    return all(check.passed for check in worst_of(findings))


def test_equal_values_pass_with_no_error() -> None:
    comparison = compared(TOKENS)
    assert [finding.value for finding in found(TOKENS)] == [0, 0]
    assert passes(comparison)


def test_the_limit_is_a_multiple_of_the_own_error_of_pytorch_and_a_floor() -> None:
    oracle = changed(TOKENS, (0, 1, 0), 3.0 + 1e-3)
    assert compared(TOKENS, oracle=oracle).limit == pytest.approx(4 * 1e-3 + 1e-6 * LARGEST)
    assert compared(TOKENS).limit == pytest.approx(1e-6 * LARGEST)


@pytest.mark.parametrize(("share", "passed"), [(0.99, True), (1.01, False)])
def test_an_error_passes_up_to_the_limit_and_no_further(share: float, passed: bool) -> None:
    oracle = changed(TOKENS, (0, 1, 0), 3.0 + 1e-3)
    limit = 4 * 1e-3 + 1e-6 * LARGEST
    comparison = compared(changed(TOKENS, (1, 0, 1), 8.0 + share * limit), oracle=oracle)
    assert comparison.badness == pytest.approx(share)
    assert passes(comparison) is passed


def test_errors_are_against_the_oracle_and_not_against_pytorch() -> None:
    oracle = changed(TOKENS, (0, 1, 0), 3.5)
    assert compared(oracle, oracle=oracle).value == 0
    assert compared(TOKENS, oracle=oracle).value == 0.5


@pytest.mark.parametrize("garbage", [1e9, np.nan, np.inf])
def test_padded_positions_do_not_count(garbage: float) -> None:
    assert passes(compared(np.where(VALID[:, :, None], TOKENS, garbage)))


def test_noise_of_pytorch_at_padded_positions_does_not_widen_the_limit() -> None:
    noisy = np.where(VALID[:, :, None], TOKENS, 1e9)
    assert compared(TOKENS, noisy, oracle=TOKENS).limit == compared(TOKENS).limit


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_fail_and_are_counted(value: float) -> None:
    candidate = changed(changed(TOKENS, (0, 0, 1), value), (1, 0, 0), value)
    off, finite = worst_of([*found(TOKENS), *found(candidate), *found(TOKENS)])
    assert (off.passed, finite.passed) == (False, False)
    assert (finite.worst, finite.limit) == (2, 0)
    assert "[0, 0, 1]" in off.where


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", [ORACLE, Rule(oracle_factor=4, floor=1e-6, rtol=1e-3, atol=1e-3)])
def test_values_that_are_not_finite_are_never_equal(value: float, rule: Rule) -> None:
    broken = changed(TOKENS, (0, 0, 1), value)
    comparison = compared(broken, broken, rule=rule)
    assert comparison.badness == np.inf
    assert not passes(compared(TOKENS), comparison)
    assert not passes(comparison, compared(TOKENS))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_overflow_of_pytorch_does_not_widen_the_limit_elsewhere(value: float) -> None:
    reference = changed(TOKENS, (0, 0, 1), value)
    assert passes(compared(TOKENS, reference, oracle=TOKENS))
    assert not passes(compared(changed(TOKENS, (1, 0, 0), 7.5), reference, oracle=TOKENS))


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3), (1, 3, 2), (3, 2, 2)])
def test_another_shape_fails_and_both_are_named(shape: tuple[int, ...]) -> None:
    comparison = compared(np.ones(shape))
    assert not passes(compared(TOKENS), comparison)
    assert comparison.value == np.inf
    assert comparison.where == f"left 2x3: shape {shape}, PyTorch (2, 3, 2)"


def test_the_worst_element_is_named_with_its_index_and_both_values() -> None:
    candidate = changed(changed(TOKENS, (0, 1, 0), 3.1), (1, 0, 1), 8.5)
    assert compared(candidate).where == "left 2x3, [1, 0, 1]: onnx 8.5, torch 8"
    assert compared(changed(CLASSES, (1, 2), 7), CLASSES, valid=ROWS).where == "left 2x3, [1, 2]: onnx 7, torch -1"


def test_every_class_counts_in_a_row_that_has_a_token() -> None:
    for index in np.ndindex(CLASSES.shape):
        assert not passes(compared(changed(CLASSES, index, 9.0), CLASSES, valid=ROWS))
    assert passes(compared(changed(CLASSES, (1, 0), 9.0), CLASSES, valid=np.array([True, False])))


def test_fixed_tolerances_are_the_rule_of_allclose_against_pytorch() -> None:
    rule = Rule(oracle_factor=4, floor=1e-6, rtol=1e-2, atol=1e-3)
    for value in (8.08, 8.0809, 8.0811, 7.9191, 7.9189):
        candidate = changed(TOKENS, (1, 0, 1), value)
        comparison = compared(candidate, oracle=TOKENS + 100, rule=rule)
        assert passes(comparison) == np.allclose(candidate, TOKENS, rtol=1e-2, atol=1e-3)
        assert comparison.limit == pytest.approx(0.081)


@pytest.mark.parametrize(
    "rule", [Rule(oracle_factor=4, floor=1e-6, rtol=0.1), Rule(oracle_factor=4, floor=1, atol=0.3)]
)
def test_one_fixed_tolerance_is_enough_and_the_other_is_zero(rule: Rule) -> None:
    assert passes(compared(changed(TOKENS, (0, 1, 0), 3.29), rule=rule))
    assert not passes(compared(changed(TOKENS, (0, 1, 0), 3.31), rule=rule))


def test_a_tolerance_of_zero_passes_what_is_equal_and_nothing_else() -> None:
    exact = Rule(oracle_factor=4, floor=1e-6, rtol=0.0, atol=0.0)
    assert passes(compared(TOKENS, rule=exact))
    assert not passes(compared(changed(TOKENS, (0, 0, 0), np.nextafter(1.0, 2.0)), rule=exact))


def test_the_worst_element_uses_most_of_its_own_limit() -> None:
    relative = Rule(oracle_factor=4, floor=1e-6, rtol=0.1)
    candidate = changed(changed(TOKENS, (0, 0, 0), 1.2), (1, 0, 1), 8.7)
    assert "[0, 0, 0]" in compared(candidate, rule=relative).where


def test_the_limit_itself_passes() -> None:
    assert passes(Finding(check="a", value=0.25, limit=0.25, where=""))


def test_there_is_a_check_for_every_name_and_the_worst_case_speaks() -> None:
    findings = [
        Finding(check=check, value=value, limit=1.0, where=f"case {value}")
        for check, value in (("a", 0.1), ("b", 0.0), ("a", 1.5), ("a", 0.7), ("b", 0.2))
    ]
    checks = worst_of(findings)
    assert [(check.name, check.passed) for check in checks] == [("a", False), ("b", True)]
    first = checks[0]
    assert (first.worst, first.limit, first.where, first.compared) == (1.5, 1.0, "case 1.5", "3 batches")


@pytest.mark.parametrize(
    ("value", "limit", "badness"), [(0.0, 0.0, 0), (1.0, 0.0, np.inf), (np.nan, 1.0, np.inf), (np.inf, np.inf, np.inf)]
)
def test_what_is_beyond_a_limit_of_zero_or_not_finite_is_infinitely_bad(
    value: float, limit: float, badness: float
) -> None:
    assert Finding(check="a", value=value, limit=limit, where="").badness == badness


def test_without_an_oracle_the_usual_error_counts_once_more() -> None:
    alone = values(changed(TOKENS, (1, 0, 1), 8.5))
    assert own_error(alone) == 0
    (off, _) = parity(alone, ORACLE, Usual(error=1e-3))
    assert off.value == 0.5
    assert off.limit == pytest.approx(5 * 1e-3 + 1e-6 * LARGEST)


def test_the_own_error_is_the_largest() -> None:
    assert own_error(values(TOKENS, oracle=changed(TOKENS, (0, 1, 0), 3.5))) == 0.5


def test_small_values_and_a_small_error_may_be_chance_so_that_what_is_usual_counts() -> None:
    usual = Usual().seen(values(TOKENS, oracle=changed(TOKENS, (0, 1, 0), 3.5)))
    assert usual == Usual(error=0.5, scale=LARGEST)
    small = TOKENS / 1000
    (off, _) = parity(values(small, small, oracle=small), ORACLE, usual)
    assert off.limit == pytest.approx(4 * 0.5 + 1e-6 * LARGEST)


def test_a_reference_of_zeros_can_be_matched() -> None:
    zeros = np.zeros_like(TOKENS, dtype=np.float32)
    assert passes(compared(zeros, zeros))
    assert not passes(compared(changed(zeros, (0, 0, 0), 1e-30), zeros))
