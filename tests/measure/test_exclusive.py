from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from modelbuild.errors import HostError
from modelbuild.measure.exclusive import exclusive, lock_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def try_lock() -> None:
    with lock_file("job").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_is_held_inside_and_free_after_an_error() -> None:
    said: list[str] = []

    def fail_inside() -> None:
        with exclusive("job", said.append):
            with pytest.raises(BlockingIOError):
                try_lock()
            raise LookupError

    with pytest.raises(LookupError):
        fail_inside()
    try_lock()
    assert said == []


def test_it_says_so_once_and_waits_while_another_holds_the_lock() -> None:
    with exclusive("job", pytest.fail):
        pass
    holder = lock_file("job").open("a")
    fcntl.flock(holder, fcntl.LOCK_EX)
    said: list[str] = []

    def note_and_let_go(line: str) -> None:
        said.append(line)
        holder.close()

    with exclusive("job", note_and_let_go):
        assert len(said) == 1
        assert said[0].startswith("waiting for ")


def test_the_folder_of_the_lock_is_private() -> None:
    with exclusive("job", pytest.fail):
        assert lock_file("job").parent.stat().st_mode & 0o077 == 0


def test_a_lock_that_cannot_be_made_is_a_host_error(cache: Path) -> None:
    (cache / "modelbuild").write_text("a file where the folder should be")
    with pytest.raises(HostError, match="cannot open the lock"), exclusive("job", pytest.fail):
        pass
