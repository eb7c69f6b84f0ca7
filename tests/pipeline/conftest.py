"""Finished builds to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from processes import TINY, run
from runtime_package import embeddings, model_file, package

__all__ = ["embeddings", "model_file", "package"]


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the tiny build is finished. Not to be changed; `built` is a copy."""
    folder = tmp_path_factory.mktemp("seed")
    finished = run(*TINY, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture
def built(seed: Path, tmp_path: Path) -> Path:
    """A workspace of one's own in which the tiny build is finished."""
    folder = tmp_path / "workspace"
    shutil.copytree(seed, folder, symlinks=True)
    return folder
