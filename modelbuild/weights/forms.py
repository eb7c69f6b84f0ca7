"""An original as a whole, in one orientation, beside a tensor that may be it. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from modelbuild.weights.rounding import epsilon
from modelbuild.weights.tensors import Array, Difference, Original, bits, sampled

_CONSTANT_RATIO = 1e-6
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """An original in one orientation, with a sample of its bits."""

    original: Original
    transposed: bool
    sample: Array

    def values(self) -> Array:
        """It in this orientation."""
        return self.original.values.T if self.transposed else self.original.values


def compare(form: Form, tensor: Array) -> Difference:
    """Where `tensor`, of the same size, differs from it."""
    theirs = bits(form.values())
    unequal = bits(tensor).reshape(theirs.shape) != theirs
    count = int(np.count_nonzero(unequal))
    if not count:
        return Difference(count=0, where="")
    at = tuple(int(index) for index in np.unravel_index(int(np.argmax(unequal)), unequal.shape))
    flat = int(np.ravel_multi_index(at[::-1] if form.transposed else at, form.original.values.shape))
    return Difference(count=count, where=form.original.differs(flat, tensor.reshape(unequal.shape)[at]))


def relation(form: Form, tensor: Array) -> Literal["equal", "transposed", "reshaped"]:
    """How it became `tensor`, which has the same elements in the same order."""
    if tensor.shape != form.values().shape:
        return "reshaped"
    return "transposed" if form.transposed else "equal"


def scaled(form: Form, tensor: Array) -> bool:
    """Whether all elements are the original's times one number, which is not 1, as near as the dtype tells."""
    near = max(_CONSTANT_RATIO, epsilon(tensor.dtype) if tensor.dtype.itemsize == 2 else 0)
    for theirs, mine in (
        (form.sample.view(tensor.dtype), sampled(tensor).view(tensor.dtype)),
        (form.values(), tensor.reshape(form.values().shape)),
    ):
        wide, narrow = theirs.astype(np.float64), mine.astype(np.float64)
        ratio = float((wide * narrow).sum() / max(float((wide * wide).sum()), _TINY))
        if abs(ratio - 1) <= 10 * near or (abs(narrow - ratio * wide) > near * abs(narrow)).any():
            return False
    return True


def likeness(form: Form, tensor: Array) -> float:
    """The correlation of the two samples: 1 for a multiple, about 0 for what has nothing to do with it."""
    theirs, mine = (sample.view(tensor.dtype).astype(np.float64) for sample in (form.sample, sampled(tensor)))
    theirs, mine = theirs - theirs.mean(), mine - mine.mean()
    return float((mine * theirs).sum() / max(float(np.sqrt((mine**2).sum() * (theirs**2).sum())), _TINY))
