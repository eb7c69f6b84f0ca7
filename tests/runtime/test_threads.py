"""How many threads a session uses: the part of `session` that looks at the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelbuild.runtime import session
from modelbuild.runtime.session import SessionSettings, session_options, usable_cores


@pytest.fixture
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cgroup's quota is read from; 8 cores by affinity."""
    monkeypatch.setattr(session, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    return tmp_path / "cpu.max"


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
        ("nonsense", 8),
    ],
)
def test_usable_cores_are_no_more_than_the_quota_allows(text: str, cores: int, quota: Path) -> None:
    quota.write_text(text)
    assert usable_cores() == cores


def test_usable_cores_without_a_quota_are_those_of_the_affinity(quota: Path) -> None:
    assert usable_cores() == 8


def test_usable_cores_without_affinity_are_those_of_the_host(quota: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.usefixtures("one_core")
def test_a_process_that_is_bound_to_one_core_uses_one_thread() -> None:
    assert usable_cores() == 1
    assert session_options(SessionSettings()).intra_op_num_threads == 1


@pytest.mark.parametrize(
    ("values", "intra", "inter"),
    [
        ({}, 6, 1),
        ({"inter_op_num_threads": 0}, 6, 1),
        ({"intra_op_num_threads": 3}, 3, 1),
        ({"execution_mode": "parallel"}, 3, 1),
        ({"execution_mode": "parallel", "inter_op_num_threads": 0}, 3, 6),
        ({"execution_mode": "parallel", "inter_op_num_threads": 2, "intra_op_num_threads": 5}, 5, 2),
    ],
)
def test_threads_that_are_not_given_follow_the_usable_cores(
    values: dict[str, Any], intra: int, inter: int, quota: Path
) -> None:
    quota.write_text("600000 100000")
    options = session_options(SessionSettings.from_mapping(values))
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (intra, inter)


def test_parallel_on_one_core_still_has_a_thread(quota: Path) -> None:
    quota.write_text("100000 100000")
    assert session_options(SessionSettings(execution_mode="parallel")).intra_op_num_threads == 1
