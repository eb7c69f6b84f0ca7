"""The account of quantized weights, on tensors alone: half a step everywhere, and one element that is off is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.weights.account import account_for
from modelbuild.weights.entries import Entry
from modelbuild.weights.quantized import Grid, Quantized, affine, blocks

Array = npt.NDArray[Any]
_RNG = np.random.default_rng(3)
ORIGINALS: dict[str, Array] = {
    name: _RNG.standard_normal(shape).astype(np.float32)
    for name, shape in {
        "q": (24, 32), "k": (24, 32), "v": (24, 32), "up": (48, 32), "conv1d": (32, 48), "words": (60, 32),
        "norm": (32,),
    }.items()
}  # fmt: skip
SMOOTHING = np.exp(_RNG.standard_normal(32)).astype(np.float32)


def _per_channel(matrix: Array) -> tuple[Array, Array, Array | None]:
    scales = (np.abs(matrix).max(axis=0) / 127).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales, None


def _per_tensor(matrix: Array) -> tuple[Array, Array, Array | None]:
    lowest = matrix.min()
    scale = np.float32((matrix.max() - lowest) / 255)
    zero = np.rint(-lowest / scale)
    return np.clip(np.rint(matrix / scale) + zero, 0, 255).astype(np.uint8), np.array(scale), np.array(zero, np.uint8)


def _item(parts: tuple[Array, Array, Array | None], **options: Any) -> Quantized:
    return Quantized(
        name="numbers",
        shape=parts[0].shape,
        parts=frozenset({"numbers", "scale", "zero"}),
        read=lambda: affine(*parts),
        **options,
    )


def _entry(item: Quantized) -> Entry:
    tensors: list[tuple[str, Array]] = [
        ("numbers", np.arange(400, dtype=np.int8).reshape(20, 20)),
        ("scale", ORIGINALS["norm"] * 0.7),
    ]
    account = account_for(tensors, ORIGINALS, quantized=[item])
    assert len(account.entries) == 1
    missing = {original.names[0] for original in account.absent}
    assert not missing & set(account.entries[0].originals)
    return account.entries[0]


@pytest.mark.parametrize("quantize", [_per_channel, _per_tensor])
@pytest.mark.parametrize(
    ("matrix", "originals"),
    [
        (ORIGINALS["up"].T, ("up",)),
        (ORIGINALS["conv1d"], ("conv1d",)),
        (ORIGINALS["words"], ("words",)),
        (np.concatenate([ORIGINALS[name].T for name in "qkv"], axis=1), ("q", "k", "v")),
    ],
)
def test_a_quantized_tensor_is_traced_to_what_it_is_made_of(
    quantize: Callable[[Array], Any], matrix: Array, originals: tuple[str, ...]
) -> None:
    entry = _entry(_item(quantize(matrix)))
    assert (entry.relation, entry.originals, entry.faulty, entry.where) == ("quantized", originals, 0, "")
    assert entry.shape == matrix.shape


def test_a_smoothed_tensor_is_the_original_times_a_constant_of_the_graph() -> None:
    parts = _per_channel(ORIGINALS["up"].T / SMOOTHING[:, None])
    assert _entry(_item(parts, smoothing=("smooth", SMOOTHING))).relation == "quantized"
    assert _entry(_item(parts)).relation in ("changed", "unaccounted")
    assert _entry(_item(parts, smoothing=("smooth", SMOOTHING[::-1].copy()))).relation in ("changed", "unaccounted")
    tensors: list[tuple[str, Array]] = [("numbers", parts[0]), ("smooth", SMOOTHING)]
    assert len(account_for(tensors, ORIGINALS, quantized=[_item(parts, smoothing=("smooth", SMOOTHING))]).entries) == 1


def test_a_multiplication_that_is_not_smoothing_changes_nothing() -> None:
    item = _item(_per_channel(ORIGINALS["up"].T), smoothing=("gain", SMOOTHING))
    assert _entry(item).relation == "quantized"
    tensors: list[tuple[str, Array]] = [("numbers", ORIGINALS["q"].astype(np.int8)), ("gain", SMOOTHING)]
    account = account_for(tensors, ORIGINALS, quantized=[item])
    assert [entry.name for entry in account.unaccounted()] == ["gain"]


def _two_steps(parts: Any) -> Any:
    numbers, scales, zero = parts
    changed = numbers.copy()
    changed[7, 9] += 2 if changed[7, 9] < 100 else -2
    return changed, scales, zero


def _wrong_scale(parts: Any) -> Any:
    numbers, scales, zero = parts
    return numbers, np.where(np.arange(scales.size) == 9, scales * np.float32(1.1), scales), zero


def _all_scales(parts: Any) -> Any:
    return parts[0], parts[1] * np.float32(2), parts[2]


def _zero_point(parts: Any) -> Any:
    return parts[0], parts[1], np.full(parts[1].size, 1, np.int8)


def _columns_swapped(parts: Any) -> Any:
    order = np.arange(parts[0].shape[1])
    order[[3, 4]] = order[[4, 3]]
    return parts[0][:, order], parts[1][order], parts[2]


@pytest.mark.parametrize(
    ("harm", "where"),
    [
        (_two_steps, r"up[9, 7] is "),
        (_wrong_scale, r"up[9, "),
        (_all_scales, r"up[0, 0] is "),
        (_zero_point, r"up[0, 0] is "),
        (_columns_swapped, r"up[3, 0] is "),
    ],
)
def test_a_planted_fault_is_found_and_named(harm: Callable[[Any], Any], where: str) -> None:
    entry = _entry(_item(harm(_per_channel(ORIGINALS["up"].T))))
    assert entry.relation == "changed"
    assert entry.originals == ("up",)
    assert entry.faulty > 0
    assert entry.where.startswith(where)
    assert " in PyTorch and " in entry.where
    assert ", where half a step is " in entry.where


def test_one_element_that_is_off_by_two_steps_is_one_fault_and_by_a_third_of_one_is_none() -> None:
    parts = _per_channel(ORIGINALS["up"].T)
    assert _entry(_item(_two_steps(parts))).faulty == 1
    grid = affine(*parts)
    nudged = np.clip(grid.values, ORIGINALS["up"].T - 0.49 * grid.steps, ORIGINALS["up"].T + 0.49 * grid.steps)
    item = replace(_item(parts), read=lambda: Grid(values=nudged, steps=grid.steps))
    assert _entry(item).relation == "quantized"


def test_layers_that_are_swapped_are_found_by_their_places() -> None:
    parts = _per_channel(ORIGINALS["k"].T)
    assert _entry(_item(parts, belongs=frozenset({"k"}))).relation == "quantized"
    assert _entry(_item(parts)).relation == "quantized"
    entry = _entry(_item(parts, belongs=frozenset({"q"})))
    assert (entry.relation, entry.faulty, entry.where) == ("changed", 768, "k is in the place of q")


def test_a_fault_in_one_of_several_side_by_side_is_in_that_one() -> None:
    parts = _per_channel(np.concatenate([ORIGINALS[name].T for name in "qkv"], axis=1))
    parts[0][5, 30] += 2 if parts[0][5, 30] < 100 else -2
    entry = _entry(_item(parts))
    assert entry.where.startswith("k[6, 5] is ")
    assert entry.faulty == 1


def test_what_resembles_nothing_is_not_accounted_for() -> None:
    entry = _entry(_item(_per_channel(np.random.default_rng(8).standard_normal((32, 48)).astype(np.float32))))
    assert (entry.relation, entry.originals) == ("unaccounted", ())
    assert _entry(_item(_per_channel(np.ones((5, 9), np.float32)))).relation == "unaccounted"


def test_numbers_of_fewer_than_8_bits_are_unpacked_from_the_lowest() -> None:
    packed = np.array([[[0x21, 0x43]]], np.uint8)
    grid = blocks(packed, np.array([0.5], np.float32), np.array([0x01], np.uint8), rows=4, bits=4)
    assert grid.values.T.tolist() == [[0, 0.5, 1, 1.5]]
    assert blocks(packed, np.ones(1, np.float32), None, rows=3, bits=4).values.T.tolist() == [[-7, -6, -5]]
    assert blocks(packed, np.ones(1, np.float32), np.array([[2.0]]), rows=2, bits=8).values.T.tolist() == [[31, 65]]
    assert blocks(packed, np.ones(1, np.float32), None, rows=8, bits=2).values.T.tolist() == [
        [-1, -2, 0, -2, 1, -2, -2, -1]
    ]


def test_scales_are_for_a_tensor_a_channel_or_a_block() -> None:
    numbers = np.arange(12, dtype=np.int8).reshape(4, 3)
    assert np.array_equal(affine(numbers, np.array(2.0), np.array(1, np.int8)).values, (numbers - 1) * 2.0)
    assert np.array_equal(affine(numbers, np.array([1.0, 2, 3]), None).values, numbers * [1.0, 2, 3])
    assert np.array_equal(affine(numbers, np.arange(4.0), None, 0).values, numbers * np.arange(4.0)[:, None])
    by_block = affine(numbers, np.array([[1.0] * 3, [2.0] * 3]), None, 0, 3)
    assert np.array_equal(by_block.values, numbers * np.array([1.0, 1, 1, 2])[:, None])
