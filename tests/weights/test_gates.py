from __future__ import annotations

import numpy as np
import pytest

from modelbuild.weights.account import account_for
from modelbuild.weights.gates import GRU, LSTM, Order
from modelbuild.weights.tensors import Array


def weights(gates: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.standard_normal((gates * 5, 4)).astype(np.float32),
        "bias_ih": rng.standard_normal(gates * 5).astype(np.float32),
        "bias_hh": rng.standard_normal(gates * 5).astype(np.float32),
    }


def as_onnx(values: Array, order: Order) -> Array:
    blocks = values.reshape(len(order), -1, *values.shape[1:])
    return np.concatenate([blocks[gate] for gate in order])


@pytest.mark.parametrize("order", [GRU, LSTM])
def test_gates_in_onnxs_order_are_the_originals(order: Order) -> None:
    originals = weights(len(order))
    both = np.concatenate([as_onnx(originals[name], order) for name in ("bias_ih", "bias_hh")])
    tensors = [("w", as_onnx(originals["weight"], order)[None]), ("b", both[None])]
    account = account_for(tensors, originals, gates=dict.fromkeys(originals, order))
    assert [(entry.relation, entry.originals) for entry in account.entries] == [
        ("reordered", ("weight",)),
        ("reordered", ("bias_ih", "bias_hh")),
    ]
    assert not account.absent


@pytest.mark.parametrize("order", [GRU, LSTM])
def test_gates_in_another_order_or_off_by_the_last_bit_are_faults(order: Order) -> None:
    originals = weights(len(order))
    wrong = as_onnx(originals["weight"], order[::-1])
    bent = as_onnx(originals["weight"], order)
    bent[3, 1] = np.nextafter(bent[3, 1], np.float32(9))
    for tensor in (wrong, bent):
        (entry,) = account_for([("w", tensor)], originals, gates=dict.fromkeys(originals, order)).entries
        assert entry.relation in ("changed", "unaccounted")


def test_what_has_no_gates_may_not_have_another_order() -> None:
    originals = weights(3)
    (entry,) = account_for([("w", as_onnx(originals["weight"], GRU))], originals).entries
    assert entry.relation == "changed"
