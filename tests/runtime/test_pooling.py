"""Pooling in numpy gives what sentence-transformers gives, for every way that it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.models import Pooling as Theirs

from modelbuild.errors import PackageError
from modelbuild.runtime.pooling import read_pooling

WAYS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
MODULES = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
NORMALIZE = "sentence_transformers.models.Normalize"


def write(folder: Path, *ways: str, modules: list[str] | None = None, **more: Any) -> Path:
    """What sentence-transformers writes beside a model."""
    (folder / "1_Pooling").mkdir()
    config = {"word_embedding_dimension": 4} | {f"pooling_mode_{way}": way in ways for way in WAYS} | more
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps([{"type": kind} for kind in modules or MODULES]))
    return folder


def states_and_mask() -> tuple[np.ndarray, np.ndarray]:
    states = np.random.default_rng(0).standard_normal((4, 6, 4)).astype(np.float32)
    mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]], np.int64)
    return states, mask


@pytest.mark.parametrize("ways", [*((way,) for way in WAYS), ("cls_token", "mean_tokens"), ("lasttoken", "max_tokens")])
def test_it_is_what_sentence_transformers_gives(ways: tuple[str, ...], tmp_path: Path) -> None:
    states, mask = states_and_mask()
    theirs = Theirs(4, **{f"pooling_mode_{way}": way in ways for way in WAYS})
    features = {"token_embeddings": torch.from_numpy(states), "attention_mask": torch.from_numpy(mask)}
    expected = theirs(features)["sentence_embedding"].numpy()
    np.testing.assert_allclose(read_pooling(write(tmp_path, *ways))(states, mask), expected, rtol=1e-5, atol=1e-6)


def test_a_result_that_is_to_be_normalized_has_length_one(tmp_path: Path) -> None:
    states, mask = states_and_mask()
    pooled = read_pooling(write(tmp_path, "mean_tokens", modules=[*MODULES, NORMALIZE]))(states, mask)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("ways", "options", "said"),
    [
        ((), {}, "no way to pool is declared"),
        (("mean_tokens",), {"pooling_mode_new": True}, "there is no way to pool 'pooling_mode_new'"),
        (("mean_tokens",), {"include_prompt": False}, "leaves the prompt out"),
        (("mean_tokens",), {"modules": [*MODULES, "sentence_transformers.models.Dense"]}, "goes through .*Dense"),
        (("mean_tokens",), {"modules": MODULES[:1]}, "has only what is before the pooling"),
    ],
)
def test_what_is_not_known_is_refused(
    ways: tuple[str, ...], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(PackageError, match=said):
        read_pooling(write(tmp_path, *ways, **options))


def test_a_package_that_does_not_say_how_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"does not say how to pool: it has no modules\.json"):
        read_pooling(tmp_path)
    write(tmp_path, "mean_tokens")
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(PackageError, match="it cannot be read"):
        read_pooling(tmp_path)
