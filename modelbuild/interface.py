"""What one graph takes and gives: names, dtypes, axes, what is in each tensor, and how large each axis may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from modelbuild.signature import TensorSpec
from modelbuild.strict import Strict

Content = Literal["token_ids", "attention_mask", "token_type_ids", "position_ids", "indices", "flags", "values"]
Meaning = Literal["scores", "embeddings", "values"]
AxisKind = Literal["batch", "length", "past", "extent", "sum", "derived"]


class Axis(Strict):
    """A symbolic axis.

    `batch`: rows that do not know of each other. `length`: positions of a text or a series. `past`: positions that are
    in a cache already. `extent`: height, width or a number of choices. `sum`: as long as all of `parts` together, such
    as past and new positions. `derived`: of outputs alone, as long as the inputs make it. Sizes go from `smallest` to
    `largest` (None: nobody knows) in steps of `step`; `native` is the size that the model was made for.
    """

    name: str
    kind: AxisKind
    smallest: int = 1
    largest: int | None = None
    step: int = 1
    native: int | None = None
    parts: tuple[str, ...] = ()


class Input(Strict):
    """One input. `shape` has sizes and names of axes. `content` is what is in it: `values` are any numbers, and ids and
    indices are from 0 to below `below`; with `ends`, each row has that id once, as its last; numbers that have bounds
    are `between` them. An `optional` input may be missing from a graph, which then means what PyTorch does without it.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    content: Content = "values"
    below: int = 0
    ends: int | None = None
    between: tuple[float, float] | None = None
    optional: bool = False


class Output(Strict):
    """One output. `shape` has its leading axes; what follows has sizes of its own.

    A graph gives it in `dtype`. Of `scores` the largest on the last axis matters, of `embeddings` their direction, of
    `values` nothing but themselves.
    """

    name: str
    shape: tuple[int | str, ...]
    meaning: Meaning = "values"
    dtype: str = "float32"

    def symbolic_axes(self) -> frozenset[str]:
        """The names of its axes without a size."""
        return frozenset(axis for axis in self.shape if isinstance(axis, str))


class Interface(Strict):
    """What a graph takes and gives, in its order, and every symbolic axis that is met there."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    axes: tuple[Axis, ...]

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Interface:
        """The interface that a report has."""
        return cls.model_validate_json(json.dumps(facts))

    def input_names(self) -> tuple[str, ...]:
        """The input names, in order."""
        return tuple(value.name for value in self.inputs)

    def output_names(self) -> tuple[str, ...]:
        """The output names, in order."""
        return tuple(value.name for value in self.outputs)

    def axis(self, name: str) -> Axis:
        """The axis of that name. Raises KeyError when there is none."""
        return {axis.name: axis for axis in self.axes}[name]

    def axes_of(self, kind: AxisKind) -> tuple[Axis, ...]:
        """The axes of one kind, in order."""
        return tuple(axis for axis in self.axes if axis.kind == kind)

    def limits(self) -> dict[str, int]:
        """The largest size of each axis that has one."""
        return {axis.name: axis.largest for axis in self.axes if axis.largest is not None}

    def steps(self) -> dict[str, int]:
        """What the size of an axis must be a multiple of, for each that has such a step."""
        return {axis.name: axis.step for axis in self.axes if axis.step > 1}

    def ids(self) -> dict[str, int]:
        """How many ids there are for each input that has some: they are 0 and up."""
        return {value.name: value.below for value in self.inputs if value.below and "int" in value.dtype}

    def content(self, content: Content) -> Input | None:
        """The first input that holds `content`, or None."""
        return next((value for value in self.inputs if value.content == content), None)

    def taking(self, names: tuple[str, ...]) -> Interface:
        """The same without the optional inputs that are not among `names`."""
        kept = tuple(value for value in self.inputs if value.name in names or not value.optional)
        return self.model_copy(update={"inputs": kept})

    def expected(self, value: Input) -> TensorSpec:
        """An input as the graph must declare it."""
        return TensorSpec(name=value.name, dtype=value.dtype, shape=value.shape)
