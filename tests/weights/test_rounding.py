"""The account of weights in 16 bits: the original's, rounded to the nearest, bit by bit, wherever they went."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.weights.account import account_for
from modelbuild.weights.entries import Entry
from modelbuild.weights.folded import norm
from modelbuild.weights.rounding import epsilon, is_float, narrowed

Array = npt.NDArray[Any]
DTYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
_RNG = np.random.default_rng(11)
ORIGINALS: dict[str, Array] = {
    name: _RNG.standard_normal(shape).astype(np.float32)
    for name, shape in {
        "q": (32, 32), "k": (32, 32), "v": (32, 32), "up": (48, 32), "words": (70, 32), "norm": (32,),
        "conv": (6, 4, 3, 3), "q.bias": (300,), "k.bias": (300,), "v.bias": (300,),
    }.items()
}  # fmt: skip
PACKED = np.concatenate([ORIGINALS[name].T for name in "qkv"], axis=1)
BIASES = np.concatenate([ORIGINALS[f"{name}.bias"] for name in "qkv"])


def _one(tensor: Array, originals: dict[str, Array] = ORIGINALS) -> Entry:
    entries = account_for([("tensor", tensor)], originals).entries
    assert len(entries) == 1
    return entries[0]


def _next(tensor: Array, index: Any) -> Array:
    copy = tensor.copy()
    copy.view(np.uint16)[index] += 1
    return copy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("tensor", "relation", "originals"),
    [
        (ORIGINALS["words"], "rounded", ("words",)),
        (ORIGINALS["norm"], "rounded", ("norm",)),
        (ORIGINALS["up"].T, "rounded", ("up",)),
        (ORIGINALS["q"].reshape(32, 4, 8), "rounded", ("q",)),
        (PACKED, "packed", ("q", "k", "v")),
        (BIASES, "packed", ("q.bias", "k.bias", "v.bias")),
        (ORIGINALS["words"][5:20], "sliced", ("words",)),
        (ORIGINALS["words"] * np.float32(0.3), "scaled", ("words",)),
    ],
)
def test_a_rounded_tensor_is_traced_to_what_it_is_made_of(
    tensor: Array, relation: str, originals: tuple[str, ...], dtype: Any
) -> None:
    entry = _one(tensor.astype(dtype))
    assert (entry.relation, entry.originals, entry.faulty, entry.where) == (relation, originals, 0, "")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("tensor", "index", "where"),
    [
        (ORIGINALS["words"], (69, 5), "words[69, 5] is "),
        (ORIGINALS["norm"], 3, "norm[3] is "),
        (ORIGINALS["up"].T, (3, 7), "up[7, 3] is "),
        (PACKED, (3, 40), "k[8, 3] is "),
        (BIASES, 300, "k.bias[0] is "),
        (BIASES, 899, "v.bias[299] is "),
    ],
)
def test_one_element_that_is_off_by_the_last_bit_is_found(tensor: Array, index: Any, where: str, dtype: Any) -> None:
    entry = _one(_next(np.ascontiguousarray(tensor).astype(dtype), index))
    assert (entry.relation, entry.faulty) == ("changed", 1)
    assert entry.where.startswith(where)
    assert f" in PyTorch, rounded to {dtype.name}, and " in entry.where


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_cut_off_and_not_rounded_is_found(dtype: Any) -> None:
    words = ORIGINALS["words"]
    rounded = words.astype(dtype)
    away = np.abs(rounded.astype(np.float32)) > np.abs(words)
    entry = _one(np.where(away, rounded.view(np.uint16) - 1, rounded.view(np.uint16)).astype(np.uint16).view(dtype))
    assert entry.relation == "changed"
    assert entry.faulty == away.sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_out_of_place_and_what_is_of_another_model_are_found(dtype: Any) -> None:
    assert _one(ORIGINALS["words"][::-1].astype(dtype)).relation == "changed"
    swapped = np.concatenate([BIASES[:300], BIASES[600:], BIASES[600:]])
    assert _one(swapped.astype(dtype)).originals == ("q.bias", "v.bias", "v.bias")
    foreign = np.random.default_rng(1).standard_normal((32, 48)).astype(dtype)
    assert _one(foreign).relation == "unaccounted"
    assert _one(foreign[0]).relation == "unaccounted"


def test_an_original_is_used_whether_it_is_rounded_or_not() -> None:
    tensors = [("a", ORIGINALS["q"].astype(np.float16)), ("b", ORIGINALS["k"])]
    account = account_for(tensors, {name: ORIGINALS[name] for name in "qkv"})
    assert [entry.relation for entry in account.entries] == ["rounded", "equal"]
    assert [original.names for original in account.absent] == [("v",)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_normalization_is_folded_in_before_rounding(dtype: Any) -> None:
    stored = [np.abs(_RNG.standard_normal(6)).astype(np.float32) + 0.5 for _ in range(4)]
    item = norm("bn", stored, 1e-5)
    folded = (ORIGINALS["conv"] * item.scale[:, None, None, None]).astype(np.float32).astype(dtype)
    names = {"conv": ORIGINALS["conv"]} | {
        f"bn.{part}": values
        for part, values in zip(("weight", "bias", "running_mean", "running_var"), stored, strict=True)
    }
    account = account_for([("tensor", folded)], names, [item])
    assert [entry.relation for entry in account.entries] == ["folded"]
    wrong = account_for([("tensor", _next(_next(folded, (2, 1, 1, 1)), (2, 1, 1, 1)))], names, [item])
    assert [(entry.relation, entry.faulty) for entry in wrong.entries] == [("changed", 1)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_stands_for_no_bound_becomes_the_largest_number(dtype: Any) -> None:
    largest = np.finfo(np.float32).max
    values = np.array([[-largest, largest, 1, -np.inf, np.inf, np.nan]], np.float32)
    found = narrowed(values, dtype).astype(np.float32)
    assert np.isfinite(found[0, :3]).all()
    assert np.array_equal(found[0, 3:], values[0, 3:], equal_nan=True)
    assert np.isfinite(narrowed(np.array(-1e9, np.float32), dtype).astype(np.float32))


def test_dtypes() -> None:
    assert all(is_float(dtype) for dtype in (*DTYPES, np.dtype(np.float32)))
    assert not any(is_float(np.dtype(name)) for name in ("int8", "uint16", "bool"))
    assert [epsilon(dtype) for dtype in DTYPES] == [2**-10, 2**-7]
