"""Memory of weights that are mapped from their files is given back, and no number is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modelbuild.mapped_weights import release

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked for it")


def mapped_kib(path: Path) -> int:
    """How much of a file is in the memory of this process through its mapping."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith(str(path))]
    return sum(int(next(line for line in lines[start:] if line.startswith("Rss:")).split()[1]) for start in starts)


def test_what_was_read_is_given_back_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.arange(1 << 20)}, path)
    tensor = load_file(path)["x"]
    assert tensor.sum() == sum(range(1 << 20))
    assert mapped_kib(path) >= 8 << 10
    assert release() >= 8 << 20
    assert mapped_kib(path) < 1 << 10
    assert torch.equal(tensor, torch.arange(1 << 20))


def test_a_mapping_that_was_written_into_keeps_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1 << 20)}, path)
    tensor = load_file(path)["x"]
    tensor[5] = 1
    release()
    assert tensor[5] == 1


def test_the_mapping_of_a_file_that_is_gone_is_given_back_too(tmp_path: Path) -> None:
    path = tmp_path / "gone.safetensors"
    save_file({"x": torch.ones(1 << 20)}, path)
    tensor = load_file(path)["x"]
    path.unlink()
    assert tensor.sum() == 1 << 20
    assert release() >= 4 << 20
    assert tensor.sum() == 1 << 20


def test_other_mappings_are_left_alone(tmp_path: Path) -> None:
    before = release()
    path = tmp_path / "table.dat"
    path.write_bytes(bytes(4 << 20))
    tensor = torch.from_file(str(path), size=1 << 20)
    assert tensor.sum() == 0
    assert release() <= before
