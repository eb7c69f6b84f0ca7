"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modelbuild.locks import hold, is_held


def test_a_lock_is_held_inside_and_free_after(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "build-x"
    assert not is_held(path)
    with hold(path):
        assert is_held(path)
    assert not is_held(path)


def test_a_child_that_was_handed_the_lock_keeps_it_after_its_parent_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as handle:
        child = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=(handle,), stdin=subprocess.PIPE)
    try:
        assert is_held(path)
    finally:
        child.communicate(b"\n", timeout=10)
    assert not is_held(path)


def test_who_waits_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from modelbuild.locks import hold\n"
        "with hold(Path(sys.argv[1])): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(path)]
    told: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        release = holder.stdin

        def on_wait(who: str) -> None:
            told.append(who)
            release.write("\n")
            release.flush()

        with hold(path, on_wait=on_wait):
            assert told == [f"process {holder.pid}"]
