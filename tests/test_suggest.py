from __future__ import annotations

import pytest

from modelbuild.suggest import closest, did_you_mean

WORDS = ("attention_mask", "input_ids", "token_type_ids")


@pytest.mark.parametrize(
    ("word", "near"),
    [("input_id", "input_ids"), ("atention_mask", "attention_mask"), ("tokentype_ids", "token_type_ids")],
)
def test_a_typing_error_finds_what_was_meant(word: str, near: str) -> None:
    assert closest(word, WORDS) == near
    assert did_you_mean(word, WORDS) == f"did you mean '{near}'?"


def test_the_nearest_of_several_is_chosen() -> None:
    assert closest("validatoin", ["variation", "validation", "validated"]) == "validation"


def test_a_word_unlike_all_others_gets_the_choices_in_order() -> None:
    assert closest("pixels", WORDS) is None
    assert did_you_mean("pixels", reversed(WORDS)) == "choose one of attention_mask, input_ids, token_type_ids"


def test_choices_that_are_too_many_or_none_are_not_listed() -> None:
    assert did_you_mean("pixels", [f"z{number}" for number in range(13)]) == ""
    assert did_you_mean("pixels", [f"z{number}" for number in range(12)]).startswith("choose one of z0, z1, z10")
    assert did_you_mean("pixels", ["zebra"]) == "choose one of zebra"
    assert did_you_mean("pixels", []) == ""


def test_the_known_words_may_be_any_iterable() -> None:
    assert did_you_mean("cdua", (word for word in ("cpu", "cuda"))) == "did you mean 'cuda'?"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("gpu", "cuda"),
        ("GPU", "cuda"),
        ("trt", "tensorrt"),
        ("CudaExecutionProvider", "cuda"),
        ("CUDAExecutionProvider", "cuda"),
        ("TensorRTExecutionProvider", "tensorrt"),
        ("TensorRT", "tensorrt"),
        ("cpus", "cpu"),
    ],
)
def test_a_provider_that_is_called_otherwise_is_found_by_what_is_meant(word: str, meant: str) -> None:
    assert closest(word, ("cpu", "cuda", "tensorrt")) == meant


def test_what_is_meant_is_not_suggested_where_it_does_not_exist() -> None:
    assert closest("gpu", ("cpu", "tensorrt")) == "cpu"
    assert closest("trt", ("cpu",)) is None
