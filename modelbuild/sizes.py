"""How large the axes of a batch are, within what an interface allows."""

from __future__ import annotations

from modelbuild.interface import Axis, Interface

# Where an axis has no largest size, nothing longer than this is tried.
UNLIMITED = 512
# Beside the size that a model was made for, a smaller and a larger one, as shares of it.
EXTENTS = (1.0, 0.75, 1.25)
# Two lengths of one batch differ by less than this.
_LENGTHS_APART = 5
# Two kinds of rows of one batch differ in number by less than this.
_BATCHES_APART = 3


def typical_sizes(interface: Interface, *, batch: int, length: int, past: int = 0, turn: int = 0) -> dict[str, int]:
    """The size of every axis of inputs: `batch` rows, about `length` positions, `past` of them in the cache before, as
    far as the interface allows. With `turn`, axes of one kind get sizes of their own.
    """
    sizes = {
        axis.name: allowed(axis, batch + number * turn % _BATCHES_APART)
        for number, axis in enumerate(interface.axes_of("batch"))
    }
    sizes |= {axis.name: allowed(axis, past) for axis in interface.axes_of("past")}
    for number, axis in enumerate(interface.axes_of("length")):
        sizes[axis.name] = allowed(axis, length + number * turn % _LENGTHS_APART)
    for number, axis in enumerate(interface.axes_of("extent")):
        share = EXTENTS[(turn + number) % len(EXTENTS)] if turn else 1.0
        # One less, so that it is no multiple of anything that the native size is.
        sizes[axis.name] = allowed(axis, round((axis.native or UNLIMITED) * share) - (share != 1.0))
    for total in interface.axes_of("sum"):
        excess = sum(sizes[part] for part in total.parts) - (total.largest or sum(sizes.values()))
        for part in total.parts:
            less = max(0, min(excess, sizes[part] - interface.axis(part).smallest))
            sizes[part], excess = sizes[part] - less, excess - less
    return sizes


def allowed(axis: Axis, size: int) -> int:
    """The size nearest to `size` that the axis may have, rounded down to its step."""
    chosen = max(axis.smallest, size if axis.largest is None else min(size, axis.largest))
    return max(axis.smallest, chosen - (chosen % axis.step))


def longest(interface: Interface) -> int:
    """The largest number of positions that any length may have; UNLIMITED where there is no limit, 1 without any."""
    return max((largest(interface, axis) for axis in interface.axes_of("length")), default=1)


def largest(interface: Interface, axis: Axis) -> int:
    """The largest size of `axis` that is tried: its own limit, else UNLIMITED, or what is left of a sum when its other
    parts are as small as they may be.
    """
    limits = [axis.largest or UNLIMITED]
    for total in interface.axes_of("sum"):
        if axis.name in total.parts and total.largest:
            others = (interface.axis(part).smallest for part in total.parts if part != axis.name)
            limits.append(total.largest - sum(others))
    return min(limits)
