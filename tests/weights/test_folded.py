"""A batch normalization that was folded into a convolution is accounted for; anything near to that is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.weights.account import account_for
from modelbuild.weights.entries import Account
from modelbuild.weights.folded import norm

Array = npt.NDArray[Any]
EPSILON = 1e-5


def _originals() -> dict[str, Array]:
    rng = np.random.default_rng(3)
    found = {"conv.weight": rng.standard_normal((16, 3, 3, 3)), "other.weight": rng.standard_normal((16, 3, 3, 3))}
    found["biased.bias"] = rng.standard_normal(16)
    for name in ("first", "second"):
        found[f"{name}.weight"], found[f"{name}.running_var"] = rng.uniform(0.5, 2, 16), rng.uniform(0.5, 2, 16)
        found[f"{name}.bias"], found[f"{name}.running_mean"] = rng.standard_normal(16), rng.standard_normal(16)
    return {name: array.astype(np.float32) for name, array in found.items()}


ORIGINALS = _originals()
STORED = ("weight", "bias", "running_mean", "running_var")
NORMS = [norm(name, [ORIGINALS[f"{name}.{part}"] for part in STORED], EPSILON) for name in ("first", "second")]


def _account(**tensors: Array) -> Account:
    return account_for(tensors.items(), ORIGINALS, NORMS)


def _folded(weight: str, normalization: str) -> Array:
    """As an optimizer does it, in single precision throughout."""
    scale = ORIGINALS[f"{normalization}.weight"] / np.sqrt(
        ORIGINALS[f"{normalization}.running_var"] + np.float32(EPSILON)
    )
    return np.asarray(ORIGINALS[weight] * scale.reshape(16, 1, 1, 1), dtype=np.float32)


def _shift(normalization: str, bias: str | None = None) -> Array:
    parts = {part: ORIGINALS[f"{normalization}.{part}"] for part in STORED}
    scale = parts["weight"] / np.sqrt(parts["running_var"] + np.float32(EPSILON))
    own = ORIGINALS[bias] if bias else np.zeros(16, np.float32)
    return np.asarray(parts["bias"] + (own - parts["running_mean"]) * scale, dtype=np.float32)


@pytest.mark.parametrize(
    ("tensor", "originals"),
    [
        (_folded("conv.weight", "first"), {"conv.weight", "first.weight", "first.running_var"}),
        (_folded("other.weight", "second"), {"other.weight", "second.weight", "second.running_var"}),
        (_shift("second"), {"second.bias", "second.running_mean"}),
        (_shift("first", "biased.bias"), {"biased.bias", "first.bias", "first.running_mean"}),
    ],
)
def test_what_was_folded_comes_from_the_weight_and_the_normalization(tensor: Array, originals: set[str]) -> None:
    account = _account(tensor=tensor)
    (entry,) = account.entries
    assert (entry.relation, entry.faulty, set(entry.originals)) == ("folded", 0, originals)
    assert originals.isdisjoint(name for original in account.absent for name in original.names)


@pytest.mark.parametrize("tensor", [_folded("conv.weight", "first"), _shift("second")])
def test_one_value_that_is_off_by_a_little_is_a_fault(tensor: Array) -> None:
    changed = tensor.copy()
    changed.reshape(-1)[5] *= np.float32(1 + 1e-5)
    (entry,) = _account(tensor=changed).entries
    assert (entry.relation, entry.faulty) == ("changed", 1)
    assert "folded in is" in entry.where


def test_one_channel_with_the_scale_of_another_is_a_fault() -> None:
    changed = _folded("conv.weight", "first")
    changed[4] *= np.float32(1.25)
    (entry,) = _account(tensor=changed).entries
    assert (entry.relation, entry.faulty) == ("changed", 27)
    assert "conv.weight[4, 0, 0, 0] with first folded in is" in entry.where


def test_a_scale_that_no_normalization_has_is_not_accounted_for() -> None:
    scales = np.random.default_rng(0).uniform(0.2, 3, (16, 1, 1, 1)).astype(np.float32)
    (entry,) = _account(tensor=ORIGINALS["conv.weight"] * scales).entries
    assert entry.relation not in ("folded", "equal")


def test_values_of_nothing_known_are_not_folded() -> None:
    noise = np.random.default_rng(1).standard_normal((16, 3, 3, 3)).astype(np.float32)
    (entry,) = _account(tensor=noise).entries
    assert entry.relation == "unaccounted"


def test_a_channel_that_the_normalization_takes_away_does_not_hide_the_others() -> None:
    originals = ORIGINALS | {"first.weight": ORIGINALS["first.weight"] * (np.arange(16) != 3)}
    first = norm("first", [originals[f"first.{part}"] for part in STORED], EPSILON)
    scale = originals["first.weight"] / np.sqrt(originals["first.running_var"] + np.float32(EPSILON))
    tensor = np.asarray(originals["conv.weight"] * scale.reshape(16, 1, 1, 1), dtype=np.float32)
    (entry,) = account_for([("tensor", tensor)], originals, [NORMS[1], first]).entries
    assert (entry.relation, entry.faulty) == ("folded", 0)
    tensor[3, 1, 1, 1] = 0.1
    (entry,) = account_for([("tensor", tensor)], originals, [NORMS[1], first]).entries
    assert (entry.relation, entry.faulty) == ("changed", 1)


def test_two_numbers_of_which_one_is_by_chance_what_a_normalization_says_are_none_of_it() -> None:
    stored = [np.array(pair, np.float32) for pair in ([1.5, 0.5], [2.0, 0.25], [0.0, 0.0], [1.0, 1.0])]
    originals = {f"first.{part}": array for part, array in zip(STORED, stored, strict=True)}
    constant = np.array([2.0, 7.0], np.float32)
    norms = [norm("first", stored, EPSILON)]
    assert account_for([("axes", constant)], originals, norms).entries == ()
    (entry,) = account_for([("first.bias", constant)], originals, norms).entries
    assert (entry.relation, entry.faulty) == ("changed", 1)
    (entry,) = account_for([("axes", stored[1])], originals, norms).entries
    assert entry.faulty == 0
