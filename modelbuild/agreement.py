"""Whether a candidate means the same as PyTorch, beside being close to it: the same classes, the same neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.parity import Finding, Rule, Values, element

Array = npt.NDArray[Any]

# Below this a divergence, in nats, or a cosine's distance from 1 says nothing.
_FLOOR = 1e-6
# Similarities that are closer than this have no order.
_TIE = 1e-4


def scores(values: Values, rule: Rule, limit: float) -> Iterator[Finding]:
    """Top-1 agreement and KL divergence of the distributions on the last axis, at every valid position.

    A top-1 that differs counts when PyTorch's own margin is more than twice `limit`, the error allowed for each score.
    """
    mine, torch32, torch64 = values.at_valid
    truth = torch32 if torch64 is None else torch64
    if truth.ndim < 2 or truth.shape[-1] < 2 or mine.shape != truth.shape or not np.isfinite(mine).all():
        return
    first_two = np.partition(truth, -2, axis=-1)[..., -2:]
    clear = first_two[..., 1] - first_two[..., 0] > 2 * limit
    flipped = clear & (mine.argmax(axis=-1) != truth.argmax(axis=-1))
    at = np.unravel_index(int(np.argmax(flipped)), flipped.shape)
    yield Finding(
        check=f"top-1.{values.output}",
        value=float(flipped.sum()),
        limit=0.0,
        where=f"{values.case}, {element(values, at)}: onnx {mine[at].argmax()}, torch {truth[at].argmax()}",
    )
    if torch64 is not None:
        found = divergence(truth, mine)
        at = np.unravel_index(int(np.argmax(found)), found.shape)
        yield Finding(
            check=f"KL.{values.output}",
            value=float(found[at]),
            limit=rule.oracle_factor * float(np.max(divergence(truth, torch32))) + _FLOOR,
            where=f"{values.case}, {element(values, at)}",
        )


def embeddings(values: Values, rule: Rule) -> Iterator[Finding]:
    """The cosine of the angle between vectors at every valid position (reported as its distance from 1), and the order
    of neighbours.

    Neighbours are rows of the batch, each the mean of its valid positions; pairs count whose order by cosine differs.
    Under fixed tolerances there is neither: they may allow either to differ.
    """
    mine, torch32, torch64 = values.at_valid
    truth = torch32 if torch64 is None else torch64
    if rule.absolute or mine.shape != truth.shape or not np.isfinite(mine).all():
        return
    if torch64 is not None:
        found = distance(truth, mine)
        at = np.unravel_index(int(np.argmax(found)), found.shape)
        yield Finding(
            check=f"cosine.{values.output}",
            value=float(found[at]),
            limit=rule.oracle_factor * float(np.max(distance(truth, torch32))) + _FLOOR,
            where=f"{values.case}, {element(values, at)}",
        )
    rows = np.flatnonzero(values.valid.reshape(len(values.valid), -1).any(axis=1))
    if len(rows) > 2:
        ours, theirs = (_similarities(pooled(values, array, rows)) for array in (values.candidate, values.reference))
        swapped, query = _swapped(ours, theirs)
        where = f"{values.case}, neighbours of row {int(rows[query])}"
        yield Finding(check=f"rank.{values.output}", value=float(swapped), limit=0.0, where=where)


def over_positions(values: Values) -> Values:
    """Scores of positions, `(batch, sequence)`, as those of classes: padding is what nobody chooses."""
    if values.candidate.shape != values.reference.shape:
        return values
    never = np.finfo(np.float32).min
    arrays = (values.candidate, values.reference, values.oracle)
    mine, torch32, torch64 = (None if a is None else np.where(values.valid, a, never) for a in arrays)
    assert mine is not None
    assert torch32 is not None
    return replace(
        values, candidate=mine, reference=torch32, oracle=torch64, valid=np.asarray(values.valid.any(axis=1))
    )


def divergence(truth: Array, other: Array) -> Array:
    """KL(truth || other) in nats of the softmax over the last axis."""
    first, second = _log_softmax(truth), _log_softmax(other)
    return np.asarray(np.sum(np.exp(first) * (first - second), axis=-1))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def distance(truth: Array, other: Array) -> Array:
    """1 minus the cosine of the angle between vectors on the last axis; 0 between zero vectors."""
    product = np.linalg.norm(truth, axis=-1) * np.linalg.norm(other, axis=-1)
    dot = np.sum(truth * other, axis=-1)
    return np.asarray(1 - np.divide(dot, product, out=np.ones_like(dot), where=product > 0))


def pooled(values: Values, array: Array, rows: npt.NDArray[np.intp]) -> Array:
    """One vector for each of `rows`: the mean over its valid positions, or the row itself where it has none."""
    if values.valid.ndim == 1:
        return np.asarray(array[rows].reshape(len(rows), -1), dtype=np.float64)
    return np.stack([array[row][values.valid[row]].astype(np.float64).mean(axis=0).ravel() for row in rows])


def _similarities(vectors: Array) -> Array:
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray((vectors / norms) @ (vectors / norms).T)


def _swapped(ours: Array, theirs: Array) -> tuple[int, int]:
    """How many pairs of neighbours are in another order, and the query that has most of them."""
    gaps = theirs[:, :, None] - theirs[:, None, :]
    ours_gaps = ours[:, :, None] - ours[:, None, :]
    per_query = ((gaps > _TIE) & (ours_gaps < 0)).sum(axis=(1, 2))
    return int(per_query.sum()), int(np.argmax(per_query))


def rank_agreement(ours: Array, theirs: Array) -> float:
    """Spearman's correlation of the similarities of all pairs of rows: 1 where their order is the same."""
    pairs = np.triu_indices(len(ours), 1)
    one, other = (_places(_similarities(vectors)[pairs]) for vectors in (ours, theirs))
    if not one.std() or not other.std():
        return 1.0
    return float(np.corrcoef(one, other)[0, 1])


def _places(values: Array) -> Array:
    """The place of each value in the order of all, equal ones sharing the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])
