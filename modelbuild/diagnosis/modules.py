"""The first PyTorch module whose output a graph gets wrong.

A graph does not say which of its tensors is the output of a module, and an optimizer drops what it once said. So each
module's output is looked for among the tensors of its shape, by value: on a batch that comes out right if there is
one, else on the one that does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.diagnosis.tensors import ModuleOutput, OpenGraph
from modelbuild.samples import Batch

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

# A tensor that is off by less than so many times PyTorch's own error there, and this share of the largest value, is the
# module's output, rounded. Up to this distance it is the same thing gone wrong; beyond, it is something else.
_FACTOR, _SAME, _NEAR = 4.0, 2e-6, 0.7
_EQUAL = 1e-4


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Where a graph departs: in `module`, of class `class_name`. `share` is the error there as a share of the largest
    value, None where the graph has no tensor that is near. `operator` is one that lies between it and what is still
    right, a fused one if there is any.
    """

    module: str
    class_name: str
    share: float | None
    operator: str | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One batch on both sides: the outputs of PyTorch's modules in fp32 and in fp64, and all tensors of the graph.
    `slack` is what a module may be off beside PyTorch's own error, as a share of the largest value.
    """

    batch: Batch
    modules: Sequence[ModuleOutput]
    oracle: Sequence[ModuleOutput]
    tensors: Tensors
    slack: float = 0.0

    def limit(self, index: int) -> float:
        """How far a tensor may be off, as a share of the largest value, to be the output of module `index`."""
        return (
            _FACTOR * _compared(self.oracle[index].value, self.modules[index].value, self.batch).share
            + _SAME
            + self.slack
        )


def first_departure(
    graph: OpenGraph, failing: Evidence, calm: Evidence | None, skipped: tuple[str, ...]
) -> Departure | None:
    """Where the graph first leaves PyTorch on the batch of `failing`, or None when all that is known of it is right.

    `calm`, if there is one, is a batch of the same size that comes out right. Modules whose path has a part that begins
    like one of `skipped` are not part of the graph.
    """
    pairs = _pairs(calm, None) if calm else _pairs(failing, _NEAR)
    chosen = [
        index for index, module in enumerate(failing.modules) if not f"{module.path}.".startswith(skipped or "\0")
    ]
    shares = {index: _share_of(failing, index, pairs.get(index)) for index in chosen}
    right = [index for index, share in shares.items() if share is not None and share <= failing.limit(index)]
    index = _first_wrong(failing.modules, shares, right)
    if index is None:
        return None
    module = failing.modules[index]
    return Departure(
        module=module.path,
        class_name=module.class_name,
        share=shares[index],
        operator=_between(graph, {pairs[i] for i in right}, pairs.get(index)),
    )


def _first_wrong(
    modules: Sequence[ModuleOutput], shares: Mapping[int, float | None], right: Sequence[int]
) -> int | None:
    """The first module that is wrong, and with it all that contain it: where one of those is right, what is paired with
    the module is but like it, such as a product before its bias. Failing that, the first one after all that are right.
    """
    good = {modules[index].path for index in right}
    for index, share in shares.items():
        parts = modules[index].path.split(".")
        containers = {".".join(parts[:end]) for end in range(1, len(parts))}
        if share is not None and index not in right and not containers & good:
            return index
    return next((index for index in shares if not right or index > right[-1]), None)


def _share_of(evidence: Evidence, index: int, name: str | None) -> float | None:
    if name is None:
        return None
    return _compared(evidence.modules[index].value, evidence.tensors[name], evidence.batch).share


def _pairs(evidence: Evidence, near: float | None) -> dict[int, str]:
    """For each module whose output is among the tensors, rounded or as near as `near`, the name of the nearest."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, tensor in evidence.tensors.items():
        by_shape.setdefault(tensor.shape, []).append(name)
    pairs = {}
    for index, module in enumerate(evidence.modules):
        names = by_shape.get(module.value.shape, [])
        found = [_compared(module.value, evidence.tensors[name], evidence.batch) for name in names]
        best = min(found, key=lambda pair: pair.distance, default=None)
        if best and (best.share <= evidence.limit(index) if near is None else best.distance <= near):
            pairs[index] = names[found.index(best)]
    return pairs


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Two tensors at valid positions: `share` is the largest difference as a share of the largest value. `distance` is
    the norm of the difference as a share of the norm, or how many values differ at all if that is less: values that are
    far off hardly change it if they are few.
    """

    share: float
    distance: float


def _compared(expected: Array, actual: Array, batch: Batch) -> _Compared:
    masks = [mask for mask in batch.masks.values() if expected.shape[:2] == mask.shape]
    chosen = masks[-1] if masks else np.ones(expected.shape, dtype=bool)
    right, mine = expected[chosen].astype(np.float64), actual[chosen].astype(np.float64)
    tiny = float(np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = right - mine
        share = float(np.max(np.abs(difference), initial=0.0)) / max(float(np.max(np.abs(right), initial=0.0)), tiny)
        distance = float(np.linalg.norm(difference)) / max(float(np.linalg.norm(right)), tiny)
        different = float(np.mean(np.abs(difference) > _EQUAL * np.max(np.abs(right), initial=tiny)))
    share, distance = (v if np.isfinite(v) else float("inf") for v in (share, min(distance, different)))
    return _Compared(share=share, distance=distance)


def _between(graph: OpenGraph, right: set[str], wrong: str | None) -> str | None:
    """An operator on the way from tensors that are right to the one that is wrong: the nearest to it that is fused, or
    else the nearest.
    """
    queue, seen, found = [wrong] if wrong else [], set[str](), list[str]()
    while queue:
        name = queue.pop(0)
        node = graph.producers.get(name)
        if node is None or name in right or name in seen:
            continue
        seen.add(name)
        found.append(f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type))
        queue += list(node.input)
    return next((operator for operator in found if "." in operator), next(iter(found), None))
