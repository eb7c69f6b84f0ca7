"""Weights of recurrent layers, whose gates ONNX has in another order than PyTorch, and whose biases it has in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelbuild.weights.tensors import Array, Original, bits

Order = tuple[int, ...]

# Which of PyTorch's gates comes first, second, … in ONNX: GRU has r, z, n there and z, r, h here, LSTM i, f, g, o and
# i, o, f, c (torch.nn.GRU, torch.nn.LSTM; ONNX operators GRU, LSTM).
GRU: Order = (1, 0, 2)
LSTM: Order = (0, 3, 1, 2)


def regated(tensor: Array, originals: Sequence[Original], orders: Mapping[str, Order]) -> tuple[Original, ...] | None:
    """The originals that `tensor` is, one after the other and bit by bit, each with its gates in ONNX's order; None
    when it is something else. `orders` says of which original, by name, which order that is.
    """
    known = [(original, _in_order(original, orders)) for original in originals]
    rest, found = bits(np.ascontiguousarray(tensor).reshape(-1)), list[Original]()
    while rest.size:
        begins = (
            (original, values)
            for original, values in known
            if values is not None
            and values.dtype == rest.dtype
            and values.size <= rest.size
            and np.array_equal(values, rest[: values.size])
        )
        original, values = next(begins, (None, None))
        if original is None or values is None:
            return None
        found.append(original)
        rest = rest[values.size :]
    return tuple(found) or None


def _in_order(original: Original, orders: Mapping[str, Order]) -> Array | None:
    """The bits of an original with its gates in ONNX's order, flat; None for what has no gates."""
    order = next((orders[name] for name in original.names if name in orders), None)
    if order is None:
        return None
    gates = bits(original.values).reshape(len(order), -1)
    return np.ascontiguousarray(gates[list(order)]).reshape(-1)
