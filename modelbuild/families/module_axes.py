"""What a module takes and gives, from its declaration and from runs at several sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.component import Named, Outputs, run_module
from modelbuild.errors import ExportError, listed
from modelbuild.interface import Axis, Content, Input, Interface, Output
from modelbuild.model_spec import ModuleAxis, ModuleInput
from modelbuild.module_loading import described
from modelbuild.samples import Batch, sample

_BATCH = "batch"
# Above the smallest size at two runs, for each axis its own, so that an axis of an output tells which one it follows.
_STEPS = ((2, 3), (4, 6), (8, 11), (12, 16), (18, 23))
# Where these do not fit, others do, at most so far above the smallest size.
_HIGHEST_STEP = 64
_DTYPES = ("float32", "int64", "int32", "bool")
# A row alone and beside others may differ by so much of the largest value: other sizes are added up in other orders.
_ROUNDING = 1e-3


def declared_interface(inputs: Mapping[str, ModuleInput], axes: Mapping[str, ModuleAxis]) -> Interface:
    """The inputs, and the axes that they have. An axis called `batch` is one of rows."""
    names = dict.fromkeys(axis for value in inputs.values() for axis in value.shape if isinstance(axis, str))
    return Interface(
        inputs=tuple(_input(name, value) for name, value in inputs.items()),
        outputs=(),
        axes=tuple(_axis(name, axes.get(name, ModuleAxis())) for name in names),
    )


def with_outputs(module: Named, taken: Interface, folder: Path) -> Interface:
    """The same with what the module gives for it. An axis of an output that changes with the sizes is called after the
    axis of the inputs that it is as long as, or has a name of its own.

    Raises ExportError when forward fails, gives something else each time, or lets rows of a batch change each other.
    """
    sizes = _sizes_of_runs(taken)
    batches = [_batch(taken, each) for each in sizes]
    runs = [_run(module, batch, folder) for batch in batches]
    here = runs[0]
    _require_same_again(module, here, _run(module, batches[0], folder))
    where = type(module.model).__name__
    for there in runs[1:]:
        if list(here) != list(there):
            raise ExportError(
                f"forward gives {', '.join(here)}, and at other sizes {', '.join(there)}",
                where=where,
                hint="give the same outputs always",
            )
    outputs = tuple(_output(name, [run[name] for run in runs], sizes, where) for name in here)
    named = {axis for output in outputs for axis in output.shape if isinstance(axis, str)}
    derived = sorted(named - {axis.name for axis in taken.axes})
    axes = (*taken.axes, *(Axis(name=name, kind="derived") for name in derived))
    found = taken.model_copy(update={"outputs": outputs, "axes": axes})
    _require_rows_apart(module, found, batches[0], here, folder)
    return found


def _input(name: str, value: ModuleInput) -> Input:
    plain: Content = "flags" if value.dtype == "bool" else "values"
    numbered: Content = "indices" if value.below is not None else plain
    below = value.below or (int(value.between[1]) + 1 if value.between and value.content else 0)
    return Input(
        name=name,
        dtype=value.dtype,
        shape=value.shape,
        content=value.content or numbered,
        below=below,
        between=value.between,
    )


def _axis(name: str, sizes: ModuleAxis) -> Axis:
    return Axis(name=name, kind="batch" if name == _BATCH else "length", smallest=sizes.min, largest=sizes.max)


def _sizes_of_runs(taken: Interface) -> list[dict[str, int]]:
    """The sizes to run at, by which each axis is told from the others: two, and where axes have too few sizes for that,
    more, of each of which one axis alone is another than in the first.
    """
    pairs: dict[str, tuple[int, int]] = {}
    for number, axis in enumerate(taken.axes):
        pairs[axis.name] = _pair(axis, number, list(pairs.values()))
    first, second = ({name: pair[run] for name, pair in pairs.items()} for run in (0, 1))
    if len(set(pairs.values())) == len(pairs):
        return [first, second]
    return [first, second, *(first | {name: second[name]} for name in pairs)]


def _pair(axis: Axis, number: int, taken: list[tuple[int, int]]) -> tuple[int, int]:
    """Two sizes of `axis`, which no other axis has if there are such."""
    steps = [step + 7 * (number // len(_STEPS)) for step in _STEPS[number % len(_STEPS)]]
    preferred = (axis.smallest + steps[0], axis.smallest + steps[1])
    if preferred not in taken and (axis.largest is None or preferred[1] <= axis.largest):
        return preferred
    largest = min(axis.largest or axis.smallest + _HIGHEST_STEP, axis.smallest + _HIGHEST_STEP)
    pairs = list(itertools.permutations(range(axis.smallest, largest + 1), 2))
    apart = {second - first for first, second in taken}

    def worth(pair: tuple[int, int]) -> tuple[bool, bool, int, int]:
        # One as far apart as another is as long as that and some more. One row beside no others tells little of rows.
        ends = 2 * (pair[0] == axis.smallest) + (pair[1] == axis.smallest)
        return pair in taken, pair[1] - pair[0] in apart, ends, sum(pair)

    return min(pairs, key=worth)


def _batch(taken: Interface, sizes: Mapping[str, int]) -> Batch:
    return sample(taken, sizes, mask="ones", rng=np.random.default_rng(0))


def _run(module: Named, batch: Batch, folder: Path) -> Outputs:
    try:
        found = run_module(module, batch.inputs)
    except ExportError:
        raise
    except Exception as error:
        given = ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in batch.inputs.items())
        raise ExportError(
            f"forward refuses {given}: {described(error, folder)}",
            where=type(module.model).__name__,
            hint="correct forward or model.source.inputs; sizes of axes are bounded by model.source.axes",
        ) from error
    for name, array in found.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ExportError(
                f"{name} is NaN for inputs drawn as they are declared",
                where=type(module.model).__name__,
                hint="say which numbers forward takes with between: [lowest, highest], or correct it",
            )
    return found


def _require_same_again(module: Named, first: Outputs, again: Outputs) -> None:
    different = [name for name in first if not np.array_equal(first[name], again[name])]
    if different:
        raise ExportError(
            f"forward gives another {listed(different, 4)} each time it is run",
            where=type(module.model).__name__,
            hint="it is in eval mode: take out random numbers (dropout with training=True), and what it remembers",
        )


def _require_rows_apart(module: Named, found: Interface, batch: Batch, here: Outputs, folder: Path) -> None:
    rows = found.axes_of("batch")
    if not rows or rows[0].smallest > 1:
        return
    alone = _run(module, batch.row(0), folder)
    for output in found.outputs:
        if _BATCH not in output.shape:
            continue
        place = output.shape.index(_BATCH)
        one, other = (np.take(run[output.name], 0, axis=place).astype(np.float64) for run in (alone, here))
        largest = float(np.max(np.abs(other), initial=0.0))
        if one.shape != other.shape or float(np.max(np.abs(one - other), initial=0.0)) > _ROUNDING * largest:
            raise ExportError(
                f"{output.name} of a row is another beside other rows than alone",
                where=type(module.model).__name__,
                hint="take out what mixes rows (batch norm with training=True), or call the axis rows and not batch",
            )


def _output(name: str, runs: Sequence[Any], sizes: Sequence[Mapping[str, int]], where: str) -> Output:
    first = runs[0]
    for other in runs:
        if first.ndim != other.ndim:
            problem = f"{name} has {first.ndim} axes, and {other.ndim} at other sizes"
            raise ExportError(problem, where=where, hint="give the same number of axes always")
    if first.dtype.name not in _DTYPES:
        raise ExportError(f"{name} is {first.dtype.name}", where=where, hint=f"give {', '.join(_DTYPES)}")
    shape: list[int | str] = []
    for place, lengths in enumerate(zip(*(run.shape for run in runs), strict=True)):
        same = [axis for axis in sizes[0] if tuple(each[axis] for each in sizes) == lengths]
        own = f"{name}_axis{place}".replace(".", "_")
        shape.append(lengths[0] if len(set(lengths)) == 1 else same[0] if len(same) == 1 else own)
    return Output(name=name, shape=tuple(shape), dtype=first.dtype.name, meaning="values")
