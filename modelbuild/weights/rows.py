"""A tensor of one axis that is several originals, one after the other. Pure numpy.

In 16 bits numbers occur many times, so that a single one does not say where it is from (see `pieces`): an original is
known by most of its numbers being there, in its order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelbuild.weights.tensors import Array, Difference, Original, bits


def in_a_row(tensor: Array, originals: Sequence[Original]) -> tuple[tuple[Original, ...], Difference] | None:
    """The originals that `tensor` is, and where it is not what they say; None when there is a part of which no original
    says at least half.
    """
    known = [original for original in originals if original.values.ndim == 1 and not original.uniform()]
    found, wrong, where = list[Original](), 0, ""
    done = 0
    while done < tensor.size:
        rest = bits(tensor)[done:]
        fitting = [item for item in known if item.values.size <= rest.size and item.values.dtype == tensor.dtype]
        shares = [float((bits(item.values) == rest[: item.values.size]).mean()) for item in fitting]
        if max(shares, default=0.0) < 0.5:
            return None
        nearest = fitting[int(np.argmax(shares))]
        differs = np.flatnonzero(bits(nearest.values) != rest[: nearest.values.size])
        if differs.size:
            where = where or nearest.differs(int(differs[0]), tensor[done + int(differs[0])])
            wrong += differs.size
        found.append(nearest)
        done += nearest.values.size
    return tuple(found), Difference(count=wrong, where=where)
