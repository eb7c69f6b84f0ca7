from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from checkpoints import safe_weights

from modelbuild import digest_cache as module
from modelbuild.digest import sha256_file
from modelbuild.digest_cache import DigestCache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "model.safetensors").write_bytes(safe_weights())
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read for a digest."""
    seen: list[Path] = []

    def noted(path: Path) -> str:
        seen.append(path)
        return sha256_file(path)

    monkeypatch.setattr(module, "sha256_file", noted)
    return seen


def test_a_digest_is_remembered_between_processes_and_the_file_is_not_read_again(
    folder: Path, tmp_path: Path, reads: list[Path]
) -> None:
    weights, memory = folder / "model.safetensors", tmp_path / "made" / "digests.json"
    first = DigestCache(memory).digest(weights)
    assert first == sha256_file(weights)
    cache = DigestCache(memory)
    assert [cache.digest(weights), DigestCache(memory).digest(weights)] == [first, first]
    assert reads == [weights]


def test_a_changed_file_is_read_again_even_when_its_size_is_the_same(
    folder: Path, tmp_path: Path, reads: list[Path]
) -> None:
    weights, cache = folder / "model.safetensors", DigestCache(tmp_path / "digests.json")
    before = cache.digest(weights)
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=(time.time_ns(), time.time_ns() + 1))
    assert cache.digest(weights) == sha256_file(weights) != before
    replacement = folder / "new"
    replacement.write_bytes(weights.read_bytes().lower())
    stamp = weights.stat()
    os.utime(replacement, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    replacement.replace(weights)
    assert cache.digest(weights) == sha256_file(weights)
    assert len(reads) == 3


def test_a_link_and_its_target_are_one_file(folder: Path, tmp_path: Path, reads: list[Path]) -> None:
    cache = DigestCache(tmp_path / "digests.json")
    (folder / "link").symlink_to(folder / "model.safetensors")
    assert cache.digest(folder / "link") == cache.digest(folder / "model.safetensors")
    assert len(reads) == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", '{"a": 3}', '{"%s": 3}', '{"%s": []}', '{"%s": %t}'])
def test_a_damaged_memory_of_digests_is_made_anew(folder: Path, tmp_path: Path, text: str) -> None:
    memory, weights = tmp_path / "digests.json", folder / "model.safetensors"
    status = weights.stat()
    stamp = json.dumps([status.st_size, status.st_ino, status.st_mtime_ns])
    memory.write_text(text.replace("%s", os.path.realpath(weights)).replace("%t", stamp))
    assert DigestCache(memory).digest(weights) == sha256_file(weights)
