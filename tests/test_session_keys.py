from __future__ import annotations

from pathlib import Path

import pydantic
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state

from modelbuild.session_keys import NOT_SESSION_CONFIG_KEYS, SESSION_CONFIG_KEYS
from modelbuild.spec import Session


@pytest.fixture(scope="module")
def library() -> bytes:
    """ONNX Runtime itself: the keys that it knows are strings in it."""
    return Path(onnxruntime_pybind11_state.__file__).read_bytes()


def test_every_key_is_in_the_installed_library(library: bytes) -> None:
    assert [key for key in SESSION_CONFIG_KEYS if f"{key}\0".encode() not in library] == []


def test_the_key_that_articles_name_is_not_in_the_library(library: bytes) -> None:
    assert b"memory.pattern_optimization.enabled" not in library


def test_no_key_is_in_both_lists() -> None:
    assert not SESSION_CONFIG_KEYS & set(NOT_SESSION_CONFIG_KEYS)


@pytest.mark.parametrize("key", sorted(SESSION_CONFIG_KEYS))
def test_a_session_takes_every_key(key: str) -> None:
    assert Session(config_entries={key: "1"}).config_entries == {key: "1"}


@pytest.mark.parametrize(("key", "reason"), NOT_SESSION_CONFIG_KEYS.items())
def test_a_session_refuses_what_is_taken_for_a_key_and_says_why(key: str, reason: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Session(config_entries={key: "1"})
    assert f"no session config key '{key}'; {reason}" in str(caught.value)


def test_a_session_refuses_an_unknown_key_and_names_the_nearest() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"did you mean 'session\.disable_prepacking'"):
        Session(config_entries={"session.disable_prepack": "1"})


@pytest.mark.parametrize("field", ["enable_mem_pattern", "intra_op_num_threads", "inter_op_num_threads"])
def test_keys_that_a_hint_names_exist(field: str) -> None:
    assert f"use the key session.{field} of modelbuild" in NOT_SESSION_CONFIG_KEYS[f"session.{field}"]
    assert field in Session.model_fields
