"""What a decoder begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The tokens that the decoder reads first, `(batch, length)`, and their mask, 0 where a row is padded on the left.

    `inputs` are the arrays by name that are given beside them, with the batch first: those of an encoder. A decoder
    without one has none.
    """

    tokens: Array
    mask: Array
    inputs: Mapping[str, Array] = field(default_factory=dict)

    def row(self, number: int) -> Prompt:
        """One row alone, without the padding of its tokens and of what is given beside them under a mask."""
        inside, beside = self.mask[number] > 0, self.inputs.get("attention_mask")
        rows = {name: array[number : number + 1] for name, array in self.inputs.items()}
        if beside is not None:
            read = beside[number] > 0
            rows = {name: row[:, read] if row.shape[1:] == read.shape else row for name, row in rows.items()}
        return Prompt(
            tokens=self.tokens[number : number + 1, inside], mask=self.mask[number : number + 1, inside], inputs=rows
        )

    def length(self, number: int) -> int:
        """How many tokens a row has, those that are given beside it under a mask included."""
        beside = self.inputs.get("attention_mask")
        return int(self.mask[number].sum() + (beside[number].sum() if beside is not None else 0))

    def start(self, length: int) -> Prompt:
        """The same with the first `length` positions only."""
        return replace(self, tokens=self.tokens[:, :length], mask=self.mask[:, :length])

    def then(self, tokens: Array) -> Prompt:
        """The same with `tokens`, `(batch, new)`, after it."""
        return replace(
            self,
            tokens=np.concatenate([self.tokens, tokens], axis=1),
            mask=np.concatenate([self.mask, np.ones_like(tokens)], axis=1),
        )
