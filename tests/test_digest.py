from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import NoReturn

import pytest

from modelbuild.digest import sha256_file, sha256_json, write_json, write_text

UNWRITABLE = "first half \ud800 a lone surrogate, which UTF-8 has not"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sha256_file_is_the_published_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_file_reads_all_of_a_large_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()


def test_sha256_json_is_the_same_for_another_order_of_keys() -> None:
    value = {"b": [1, {"y": 2, "x": None}], "a": "é"}
    assert sha256_json(value) == sha256_json({"a": "é", "b": [1, {"x": None, "y": 2}]})
    assert sha256_json(value) == hashlib.sha256(b'{"a":"\\u00e9","b":[1,{"x":null,"y":2}]}').hexdigest()


def test_sha256_json_tells_values_apart() -> None:
    values = [1, "1", 1.5, True, None, [], {}, [1], {"1": 1}, [[1]], "", "a b", "ab"]
    assert len({sha256_json(value) for value in values}) == len(values)


def test_sha256_json_refuses_numbers_that_json_has_not() -> None:
    with pytest.raises(ValueError, match="JSON"):
        sha256_json({"a": math.nan})


def test_write_text_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_text(path, "neü\n")
    assert path.read_bytes() == "neü\n".encode()
    assert names(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_reader_of_the_old_file_sees_all_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, UNWRITABLE)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", UNWRITABLE)
    assert names(tmp_path) == []


def test_a_rename_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file", "text")
    assert names(tmp_path) == ["file"]


def test_a_write_that_is_interrupted_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(handle: int) -> NoReturn:
        assert names(tmp_path)[0].startswith(".file.")  # beside it: only there is a rename atomic
        assert (tmp_path / "file").read_text() == "old"
        raise KeyboardInterrupt

    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_write_json_keeps_the_order_of_the_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"b": 1, "a": [True]})
    assert (tmp_path / "file").read_text() == '{\n  "b": 1,\n  "a": [\n    true\n  ]\n}\n'


def test_write_json_of_what_json_has_not_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"a": math.inf})
    assert (tmp_path / "file").read_text() == "{}\n"
    assert names(tmp_path) == ["file"]
