"""The account of the weights, on tensors alone. A tensor is compared to the last bit, wherever it went."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.weights.account import account_for
from modelbuild.weights.entries import Account, Entry

Array = npt.NDArray[Any]
HEADS = 4


def _originals() -> dict[str, Array]:
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "words": (40, 16), "positions": (12, 16), "types": (2, 16), "norm": (16,), "classifier": (3,),
        "q": (16, 16), "k": (16, 16), "v": (16, 16), "up": (24, 16), "q.bias": (16,), "k.bias": (16,), "v.bias": (16,),
    }  # fmt: skip
    drawn = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn | {"zeros": np.zeros(16, np.float32), "ids": np.arange(12)[None, :]}


ORIGINALS = _originals()
PACKED = np.concatenate([ORIGINALS[name].T for name in "qkv"], axis=1)
PACKED_BIAS = np.concatenate([ORIGINALS[f"{name}.bias"] for name in "qkv"])
INTERLEAVED = np.stack([ORIGINALS[name].reshape(HEADS, 4, 16) for name in "qkv"], axis=1).reshape(48, 16)


def _account(**tensors: Array) -> Account:
    return account_for(tensors.items(), ORIGINALS)


def _one(tensor: Array) -> Entry:
    entries = _account(tensor=tensor).entries
    assert len(entries) == 1
    return entries[0]


def _changed(tensor: Array, index: tuple[int, ...]) -> Array:
    copy = tensor.copy()
    copy[index] = np.nextafter(copy[index], np.float32(9))
    return copy


@pytest.mark.parametrize(
    ("tensor", "relation", "originals"),
    [
        (ORIGINALS["words"], "equal", ("words",)),
        (ORIGINALS["classifier"], "equal", ("classifier",)),
        (ORIGINALS["zeros"], "equal", ("zeros",)),
        (ORIGINALS["ids"], "equal", ("ids",)),
        (ORIGINALS["up"].T, "transposed", ("up",)),
        (ORIGINALS["q"].reshape(16, HEADS, 4), "reshaped", ("q",)),
        (ORIGINALS["q"].T.reshape(16, HEADS, 4), "reshaped", ("q",)),
        (PACKED, "packed", ("q", "k", "v")),
        (PACKED.T, "packed", ("q", "k", "v")),
        (PACKED.reshape(16, 3, 16), "packed", ("q", "k", "v")),
        (PACKED_BIAS, "packed", ("q.bias", "k.bias", "v.bias")),
        (INTERLEAVED, "packed", ("q", "k", "v")),
        (INTERLEAVED.T, "packed", ("q", "k", "v")),
        (np.stack([ORIGINALS[f"{name}.bias"] for name in "qkv"]), "packed", ("q.bias", "k.bias", "v.bias")),
        (np.concatenate([PACKED_BIAS, np.zeros(16, np.float32)]), "packed", ("q.bias", "k.bias", "v.bias")),
        (ORIGINALS["words"][5:20], "sliced", ("words",)),
        (ORIGINALS["types"][:1], "sliced", ("types",)),
        (ORIGINALS["words"] * np.float32(0.3), "scaled", ("words",)),
        (ORIGINALS["up"].T * np.float32(8), "scaled", ("up",)),
    ],
)
def test_a_tensor_is_traced_to_what_it_is_made_of(tensor: Array, relation: str, originals: tuple[str, ...]) -> None:
    entry = _one(tensor)
    assert (entry.relation, entry.originals, entry.faulty, entry.where) == (relation, originals, 0, "")


@pytest.mark.parametrize(
    ("tensor", "where"),
    [
        (_changed(ORIGINALS["words"], (39, 5)), "words[39, 5] is "),
        (_changed(ORIGINALS["positions"], (11, 15)), "positions[11, 15] is "),
        (_changed(ORIGINALS["types"], (1, 0)), "types[1, 0] is "),
        (_changed(ORIGINALS["norm"], (3,)), "norm[3] is "),
        (_changed(ORIGINALS["up"].T, (3, 7)), "up[7, 3] is "),
        (_changed(ORIGINALS["q"].T.reshape(16, HEADS, 4), (3, 1, 2)), "q[6, 3] is "),
        (_changed(PACKED, (3, 16)), "k[0, 3] is "),
        (_changed(PACKED, (15, 47)), "v[15, 15] is "),
        (_changed(PACKED, (0, 0)), "q[0, 0] is "),
        (_changed(INTERLEAVED, (4, 9)), "k[0, 9] is "),
        (_changed(PACKED_BIAS, (15,)), "q.bias[15] is "),
        (_changed(PACKED_BIAS, (16,)), "k.bias[0] is "),
        (_changed(ORIGINALS["words"][5:20], (2, 2)), "words[7, 2] is "),
    ],
)
def test_one_element_that_is_off_by_the_last_bit_is_found_with_both_values(tensor: Array, where: str) -> None:
    entry = _one(tensor)
    assert entry.relation == "changed"
    assert entry.faulty == 1
    assert entry.where.startswith(where)
    here, there = entry.where.removesuffix(" here").partition(" is ")[2].split(" in PyTorch and ")
    assert np.float32(here) == np.nextafter(np.float32(there), np.float32(-9))


def test_both_values_are_in_the_message() -> None:
    tensor = ORIGINALS["up"].copy()
    tensor[3, 7] = 0.0223
    assert _one(tensor).where == f"up[3, 7] is {ORIGINALS['up'][3, 7]!s} in PyTorch and 0.0223 here"


def _permuted(tensor: Array, order: list[int], axis: int = 0) -> Array:
    rest = [index for index in range(tensor.shape[axis]) if index not in order]
    return np.take(tensor, [*order, *rest], axis=axis)


@pytest.mark.parametrize(
    ("tensor", "faulty"),
    [
        (_permuted(ORIGINALS["words"], [1, 0]), 32),
        (_permuted(PACKED, [0, 9, 2, 3, 4, 5, 6, 7, 8, 1], axis=1), 32),
        (_permuted(PACKED, [1, 0], axis=1), None),
        (_permuted(PACKED, [0, 20, 2], axis=1), None),
        (_permuted(PACKED, [1, 0]), 96),
        (_permuted(PACKED_BIAS, [1, 0]), None),
        (_permuted(INTERLEAVED, [0, 1, 2, 7, 4, 5, 6, 3]), None),
        (np.roll(ORIGINALS["words"], 20, axis=0), None),
        (np.roll(ORIGINALS["words"], 1, axis=0), None),
        (ORIGINALS["words"][::-1], None),
        (ORIGINALS["words"][[5, 6, 8, 7, 9, 10]], 32),
    ],
)
def test_vectors_in_another_order_than_the_originals_are_found(tensor: Array, faulty: int | None) -> None:
    entry = _one(tensor)
    assert entry.relation == "changed"
    assert entry.faulty == faulty or (faulty is None and entry.faulty > 0)
    assert entry.where


def _with(tensor: Array, index: Any, value: Any) -> Array:
    copy = tensor.copy()
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("tensor", "where"),
    [
        (_with(ORIGINALS["words"], 39, 0.5), "words[39, 0] is "),
        (_with(ORIGINALS["positions"], 11, ORIGINALS["positions"][10]), "positions[11, 0] is "),
        (_with(PACKED, (slice(None), 16), 0.5), "k[0, 0] is "),
        (_with(PACKED, (slice(None), 0), ORIGINALS["up"][5]), "q[0, 0] is "),
        (_with(PACKED, (slice(None), 47), ORIGINALS["words"][5]), "v[15, 0] is "),
        (_with(PACKED, 3, 0.5), "q[0, 3] is "),
        (_with(PACKED_BIAS, slice(14, 18), 0.5), "q.bias[14] is "),
        (_with(ORIGINALS["words"], (0, 0), np.nan), "words[0, 0] is "),
        (ORIGINALS["up"].T + np.float32(1e-4), "up[0, 0] is "),
        (_with(ORIGINALS["words"] * np.float32(1.5), (1, 1), 3), "words[0, 0] is "),
        (np.concatenate([PACKED, np.full((16, 1), 0.5, np.float32)], axis=1), "[0, 48] is in no tensor of PyTorch"),
    ],
)
def test_vectors_that_are_wrong_are_found(tensor: Array, where: str) -> None:
    entry = _one(tensor)
    assert entry.relation == "changed"
    assert entry.faulty > 0
    assert entry.where.startswith(where)


def test_zero_and_minus_zero_differ_and_a_nan_equals_itself() -> None:
    values = np.array([0.0, np.nan, *range(1, 20)], np.float32)
    assert account_for([("a", values)], {"w": values.copy()}).entries[0].relation == "equal"
    entry = account_for([("a", _with(values, 0, -0.0))], {"w": values}).entries[0]
    assert entry.where == "w[0] is 0.0 in PyTorch and -0.0 here"


def test_a_bias_that_was_never_trained_is_known_by_its_name_or_in_a_pack() -> None:
    one = _with(ORIGINALS["zeros"], 4, 0.25)
    assert _account(zeros=one).entries[0].where == "zeros[4] is 0.0 in PyTorch and 0.25 here"
    assert _account(mask=one).entries[0].relation == "unaccounted"
    packed = _with(np.zeros(48, np.float32), 21, 0.25)
    assert _account(val_3=packed).entries[0].where == "zeros[5] is 0.0 in PyTorch and 0.25 here"


def test_values_of_a_mask_that_occur_in_a_weight_by_chance_are_no_fault() -> None:
    mask = np.zeros((1, 20), np.float32)
    mask[0, 7] = ORIGINALS["norm"][2]
    zeros = {"more zeros": np.zeros(20, np.float32), "other zeros": np.zeros(24, np.float32)}
    assert account_for([("mask", mask)], ORIGINALS | zeros).entries[0].faulty == 0


def test_a_small_tensor_is_wrong_only_by_its_name() -> None:
    tensor = _changed(ORIGINALS["classifier"], (1,))
    assert _account(classifier=tensor).entries[0].faulty == 1
    assert _account(scales=tensor).entries == ()


def test_what_resembles_nothing_is_listed_and_constants_are_not() -> None:
    rng = np.random.default_rng(1)
    account = _account(
        window=rng.standard_normal((4, 4)).astype(np.float32),
        shape=np.arange(20),
        scale=np.full((3, 16), 0.125, np.float32),
    )
    assert [(entry.name, entry.size) for entry in account.unaccounted()] == [("window", 16)]


def test_originals_without_a_counterpart_are_listed_once_with_all_their_names() -> None:
    tied = ORIGINALS | {"decoder": ORIGINALS["words"]}
    account = account_for([("packed", PACKED), ("norm", ORIGINALS["norm"])], tied)
    absent = [original.names for original in account.absent]
    assert ("words", "decoder") in absent
    assert not {("q",), ("k",), ("v",), ("norm",)} & set(absent)


def test_entries_keep_the_order_of_the_graph_and_an_empty_graph_has_none() -> None:
    account = _account(a=PACKED, b=ORIGINALS["words"], c=ORIGINALS["up"].T * np.float32(2))
    assert [entry.name for entry in account.entries] == ["a", "b", "c"]
    assert _account().entries == ()
    assert account_for([("a", PACKED)], {}).unaccounted()[0].name == "a"
