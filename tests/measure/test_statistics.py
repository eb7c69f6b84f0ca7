from __future__ import annotations

import numpy as np
import pytest

from modelbuild.measure.statistics import compare, rounded, summarize

ROUNDS = np.array([[2.0, 2.1], [2.2, 2.0], [1.9, 2.0], [2.1, 2.1], [2.0, 2.2], [2.3, 2.0], [2.0, 1.9]])


def test_summarize_gives_percentiles_and_rows_per_second() -> None:
    figures = summarize(np.arange(1.0, 102.0).reshape(1, 101), batch=4)
    assert (figures.p50_ms, figures.p90_ms, figures.p99_ms, figures.mean_ms) == (51.0, 91.0, 100.0, 51.0)
    assert figures.std_ms == pytest.approx(np.std(np.arange(101.0), ddof=1))
    assert figures.throughput_per_s == pytest.approx(4 * 1000 / 51)


def test_summarize_takes_a_single_call() -> None:
    assert summarize(np.array([[3.0]]), batch=1).std_ms == 0


def test_half_the_latency_is_twice_as_fast() -> None:
    result = compare(ROUNDS, ROUNDS / 2, seed=0)
    assert (result.median, result.low, result.high) == pytest.approx((2, 2, 2))
    assert result.verdict == "faster"


def test_a_speedup_below_one_is_slower() -> None:
    assert compare(ROUNDS, ROUNDS * 1.5, seed=0).verdict == "slower"


def test_there_is_no_difference_when_the_interval_contains_1() -> None:
    factors = np.array([[0.7], [1.4], [0.8], [1.3], [1.0], [1.2], [0.9]])
    result = compare(ROUNDS, ROUNDS * factors, seed=0)
    assert result.low < 1 < result.high
    assert result.verdict == "no difference"


def test_equal_latencies_make_no_difference() -> None:
    assert compare(ROUNDS, ROUNDS, seed=0).verdict == "no difference"


def test_swapped_sides_invert_the_speedup() -> None:
    other = ROUNDS * np.array([[0.5], [0.7], [0.6], [0.55], [0.52], [0.66], [0.58]])
    there, back = compare(ROUNDS, other, seed=3), compare(other, ROUNDS, seed=3)
    assert (there.median, there.low, there.high) == pytest.approx((1 / back.median, 1 / back.high, 1 / back.low))
    assert (there.verdict, back.verdict) == ("faster", "slower")


def test_what_slows_down_a_whole_round_changes_nothing() -> None:
    slow = np.array([[1.0], [9.0], [1.0], [1.0], [30.0], [1.0], [1.0]])
    assert compare(ROUNDS * slow, ROUNDS / 2 * slow, seed=0) == compare(ROUNDS, ROUNDS / 2, seed=0)


def test_the_interval_is_the_same_for_the_same_seed() -> None:
    other = ROUNDS[::-1] / 2
    assert compare(ROUNDS, other, seed=5) == compare(ROUNDS, other, seed=5)


def test_intervals_from_few_rounds_are_right_at_least_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0, 0.1, (200, 2, 7, 1)))
    verdicts = [compare(first, second, seed=0).verdict for first, second in noise]
    assert verdicts.count("no difference") >= 190


def test_rounded_keeps_4_digits_at_any_depth() -> None:
    assert rounded({"a": [1.23456, {"b": 123456.0}], "c": 7, "d": "1.23456", "e": None}) == {
        "a": [1.235, {"b": 123500.0}],
        "c": 7,
        "d": "1.23456",
        "e": None,
    }
