"""How many threads a session uses: the part of `session` that looks at the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelbuild.runtime import cores
from modelbuild.runtime.cores import usable_cores
from modelbuild.runtime.session import SessionSettings, session_options


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where cgroups are mounted, with `membership` beside it; 8 cores by affinity."""
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


@pytest.fixture
def quota(cgroups: Path) -> Path:
    """The file with the quota of the only cgroup."""
    return cgroups / "cpu.max"


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
        ("nonsense", 8),
        ("200000", 8),
        ("200000 0\n", 8),
        ("0 100000\n", 1),
        ("-200000 100000\n", 8),
    ],
)
def test_usable_cores_are_no_more_than_the_quota_allows(text: str, usable: int, quota: Path) -> None:
    quota.write_text(text)
    assert usable_cores() == usable


def member_of(cgroups: Path, *lines: str) -> None:
    (cgroups.parent / "membership").write_text("".join(f"{line}\n" for line in lines))


def give(folder: Path, *, quota: int, period: int = 100000, version: int = 2) -> None:
    """Write the quota of one cgroup, as the kernel shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{quota} {period}\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize(("own", "around", "usable"), [(200000, 600000, 2), (600000, 300000, 3), (900000, 900000, 8)])
def test_the_smallest_quota_of_nested_cgroups_counts(own: int, around: int, usable: int, cgroups: Path) -> None:
    member_of(cgroups, "0::/kubepods/pod1/container")
    give(cgroups / "kubepods/pod1/container", quota=own)
    give(cgroups / "kubepods", quota=around)
    give(cgroups / "kubepods/pod2", quota=100000)
    assert usable_cores() == usable


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "usable"), [(250000, 3), (-1, 8)])
def test_cgroups_of_version_1_have_quotas_too(mount: str, quota: int, usable: int, cgroups: Path) -> None:
    member_of(cgroups, "9:name=systemd:/", f"2:{mount}:/jobs/mine", "0::/")
    give(cgroups / mount / "jobs/mine", quota=quota, version=1)
    assert usable_cores() == usable


def test_a_container_that_sees_the_path_of_its_host_reads_what_is_mounted(cgroups: Path) -> None:
    member_of(cgroups, "4:cpu,cpuacct:/docker/0123", "0::/docker/0123")
    give(cgroups / "cpu,cpuacct", quota=150000, version=1)
    assert usable_cores() == 2


def test_a_cgroup_of_version_2_beside_those_of_version_1_counts(cgroups: Path) -> None:
    member_of(cgroups, "1:cpuset:/", "0::/user/session")
    give(cgroups / "unified/user", quota=400000)
    assert usable_cores() == 4


@pytest.mark.parametrize("line", ["0::/../../elsewhere", "nonsense", "3:cpuset:/elsewhere", "0::", ""])
def test_a_membership_that_names_no_cgroup_here_changes_nothing(line: str, cgroups: Path) -> None:
    member_of(cgroups, line)
    give(cgroups.parent / "elsewhere", quota=100000)
    give(cgroups / "cpuset" / "elsewhere", quota=100000)
    assert usable_cores() == 8


def test_usable_cores_without_a_quota_are_those_of_the_affinity(cgroups: Path) -> None:
    assert usable_cores() == 8


def test_usable_cores_without_affinity_are_those_of_the_host(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
