"""What a module takes and gives, from its declaration and from runs at two sizes."""

from __future__ import annotations

from collections.abc import Mapping
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
# Above the smallest size, for each axis its own, so that an axis of an output tells which one it follows.
_STEPS = ((2, 4, 8, 12, 18), (3, 6, 11, 16, 22))
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
    first, second = (_sizes(taken, steps) for steps in _STEPS)
    batch = _batch(taken, first)
    here, there = _run(module, batch, folder), _run(module, _batch(taken, second), folder)
    _require_same_again(module, here, _run(module, batch, folder))
    where = type(module.model).__name__
    if list(here) != list(there):
        raise ExportError(
            f"forward gives {', '.join(here)}, and at other sizes {', '.join(there)}",
            where=where,
            hint="give the same outputs always",
        )
    outputs = tuple(_output(name, (here[name], there[name]), (first, second), where) for name in here)
    named = {axis for output in outputs for axis in output.shape if isinstance(axis, str)}
    derived = sorted(named - {axis.name for axis in taken.axes})
    axes = (*taken.axes, *(Axis(name=name, kind="derived") for name in derived))
    found = taken.model_copy(update={"outputs": outputs, "axes": axes})
    _require_rows_apart(module, found, batch, here, folder)
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


def _sizes(taken: Interface, steps: tuple[int, ...]) -> dict[str, int]:
    found = {}
    for number, axis in enumerate(taken.axes):
        size = axis.smallest + steps[number % len(steps)] + 7 * (number // len(steps))
        last = axis.largest is not None and size >= axis.largest
        # The second sizes come one below the first where both would be the largest.
        found[axis.name] = (axis.largest or 0) - (steps is _STEPS[1]) if last else size
    return found


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
        if output.shape[:1] != (_BATCH,):
            continue
        one, other = alone[output.name][0].astype(np.float64), here[output.name][0].astype(np.float64)
        largest = float(np.max(np.abs(other), initial=0.0))
        if one.shape != other.shape or float(np.max(np.abs(one - other), initial=0.0)) > _ROUNDING * largest:
            raise ExportError(
                f"{output.name} of a row is another beside other rows than alone",
                where=type(module.model).__name__,
                hint="take out what mixes rows (batch norm with training=True), or call the axis rows and not batch",
            )


def _output(name: str, runs: tuple[Any, Any], sizes: tuple[Mapping[str, int], Mapping[str, int]], where: str) -> Output:
    first, second = runs
    if first.ndim != second.ndim or first.dtype.name not in _DTYPES:
        raise ExportError(
            f"{name} has {first.ndim} axes, and {second.ndim} at other sizes"
            if first.ndim != second.ndim
            else f"{name} is {first.dtype.name}",
            where=where,
            hint="give the same number of axes always" if first.ndim != second.ndim else f"give {', '.join(_DTYPES)}",
        )
    shape: list[int | str] = []
    for place, lengths in enumerate(zip(first.shape, second.shape, strict=True)):
        same = [axis for axis in sizes[0] if (sizes[0][axis], sizes[1][axis]) == lengths]
        own = f"{name}_axis{place}".replace(".", "_")
        shape.append(lengths[0] if lengths[0] == lengths[1] else next(iter(same), own))
    return Output(name=name, shape=tuple(shape), dtype=first.dtype.name, meaning="values")
