"""The sentences that ranges are found on, and those that accuracy is judged by."""

from __future__ import annotations

from modelbuild.sentences import CALIBRATION, EVALUATION


def test_there_are_two_hundred_to_judge_by_and_a_hundred_to_find_ranges_on() -> None:
    assert (len(EVALUATION), len(CALIBRATION)) == (200, 100)


def test_no_sentence_is_there_twice_and_none_is_judged_by_that_ranges_were_found_on() -> None:
    assert len({sentence.casefold() for sentence in (*EVALUATION, *CALIBRATION)}) == 300


def test_sentences_are_short_and_long_and_of_one_line() -> None:
    words = [len(sentence.split()) for sentence in EVALUATION]
    assert (min(words), max(words)) == (3, 59)
    assert sum(count > 20 for count in words) >= 35
    assert not [sentence for sentence in (*EVALUATION, *CALIBRATION) if sentence != " ".join(sentence.split())]


def test_sentences_hold_more_than_plain_english() -> None:
    assert len([sentence for sentence in EVALUATION if not sentence.isascii()]) >= 15
    assert len([sentence for sentence in EVALUATION if any(sign.isdigit() for sign in sentence)]) >= 30
    assert len([sentence for sentence in EVALUATION if sentence.endswith("?")]) >= 15
