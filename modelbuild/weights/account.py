"""Which tensors of the original the weights of a graph are, or are made of. Pure numpy.

In this order: a tensor as it is or transposed, bit by bit; one put together from vectors of others; a scaled or changed
copy. What is left is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from modelbuild.weights.pieces import VectorIndex
from modelbuild.weights.tensors import Array, Difference, Original, bits, distinct, sampled, uniform

# Smaller tensors are scalars and shapes more often than weights. They are matched, and never missed.
SMALL = 8
_ALIKE, _CONSTANT_RATIO = 0.9, 1e-6
_TINY = float(np.finfo(np.float64).tiny)

Relation = Literal["equal", "transposed", "reshaped", "packed", "sliced", "scaled", "changed", "unaccounted"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a graph: what it is made of and how. `faulty` counts elements that are not the original's, and
    `where` names the first, with both values.
    """

    name: str
    shape: tuple[int, ...]
    relation: Relation
    originals: tuple[str, ...] = ()
    faulty: int = 0
    where: str = ""

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Account:
    """Every tensor of a graph, and the originals that none of them comes from.

    A tied original is listed by all its names, of which the first stands for it in `entries`.
    """

    entries: tuple[Entry, ...]
    absent: tuple[Original, ...]

    def unaccounted(self) -> tuple[Entry, ...]:
        """The tensors that come from no original."""
        return tuple(entry for entry in self.entries if entry.relation == "unaccounted")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Form:
    """An original in one orientation, with a sample of its bits."""

    original: Original
    transposed: bool
    sample: Array

    def values(self) -> Array:
        return self.original.values.T if self.transposed else self.original.values


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ledger:
    """The originals in every order that a tensor may have them in, and those that were found."""

    forms: Mapping[tuple[int, np.dtype[Any]], list[_Form]]
    vectors: Mapping[np.dtype[Any], VectorIndex]
    used: set[Original] = field(default_factory=set)

    def of(self, tensor: Array) -> list[_Form]:
        return self.forms.get((tensor.size, tensor.dtype), [])


def account_for(tensors: Iterable[tuple[str, Array]], originals: Mapping[str, Array]) -> Account:
    """The account of a graph's `tensors` by the tensors of the original, parameters and buffers, by name.

    Tensors of up to 8 elements, those of one value throughout and integers of fewer than two axes are in it only if
    they are an original's.
    """
    known = distinct(originals)
    ledger = _ledger(known)
    given = [(name, np.ascontiguousarray(tensor)) for name, tensor in tensors]
    found: dict[int, Entry] = {}
    for step in (_whole, _assembled, _copy, _unknown):
        for number, (name, tensor) in enumerate(given):
            entry = None if number in found else step(ledger, name, tensor)
            if entry is not None:
                found[number] = entry
    return Account(
        entries=tuple(found[number] for number in sorted(found)),
        absent=tuple(original for original in known if original not in ledger.used),
    )


def _ledger(originals: tuple[Original, ...]) -> _Ledger:
    forms: dict[tuple[int, np.dtype[Any]], list[_Form]] = {}
    by_dtype: dict[np.dtype[Any], list[Original]] = {}
    for original in originals:
        values = original.values
        for transposed in (False, True) if values.ndim == 2 and min(values.shape) > 1 else (False,):
            form = _Form(original=original, transposed=transposed, sample=sampled(values, transposed=transposed))
            forms.setdefault((values.size, values.dtype), []).append(form)
        by_dtype.setdefault(values.dtype, []).append(original)
    return _Ledger(forms=forms, vectors={dtype: VectorIndex(originals=known) for dtype, known in by_dtype.items()})


def _is_weight(tensor: Array) -> bool:
    numbers = tensor.dtype.kind == "f" or (tensor.dtype.kind in "iu" and tensor.ndim >= 2)
    return tensor.size > SMALL and numbers and not uniform(tensor)


def _whole(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    """The original that has at least half of its elements from this, at the same places. One bit-equal at all of them
    goes before others, and one of the same name before those that are as near.
    """
    if tensor.dtype.kind != "f" and tensor.ndim < 2:
        return None
    sample = sampled(tensor)
    shares = [(float((form.sample == sample).mean()), name in form.original.names, form) for form in ledger.of(tensor)]
    nearest: tuple[_Form, Difference] | None = None
    for share, _, form in sorted(shares, key=lambda item: item[:2], reverse=True):
        if share < 0.5:
            break
        difference = _compare(form, tensor)
        if not difference.count:
            return _entry(ledger, name, tensor, _relation(form, tensor), form.original)
        if nearest is None or difference.count < nearest[1].count:
            nearest = form, difference
    if nearest is None or nearest[1].count * 2 > tensor.size:
        return None
    form, difference = nearest
    # Zeros and small tensors resemble each other by chance.
    telling = tensor.size > SMALL and not form.original.uniform()
    if not telling and name not in form.original.names:
        return None
    return _entry(ledger, name, tensor, "changed", form.original, difference=difference)


def _compare(form: _Form, tensor: Array) -> Difference:
    theirs = bits(form.values())
    unequal = bits(tensor).reshape(theirs.shape) != theirs
    count = int(np.count_nonzero(unequal))
    if not count:
        return Difference(count=0, where="")
    at = tuple(int(index) for index in np.unravel_index(int(np.argmax(unequal)), unequal.shape))
    flat = int(np.ravel_multi_index(at[::-1] if form.transposed else at, form.original.values.shape))
    return Difference(count=count, where=form.original.differs(flat, tensor.reshape(unequal.shape)[at]))


def _relation(form: _Form, tensor: Array) -> Relation:
    if tensor.shape != form.values().shape:
        return "reshaped"
    return "transposed" if form.transposed else "equal"


def _assembled(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if not _is_weight(tensor) or tensor.dtype not in ledger.vectors:
        return None
    found = ledger.vectors[tensor.dtype].explain(tensor)
    if found is None:
        return None
    alone = len(found.originals) == 1 and tensor.size < found.originals[0].values.size
    relation: Relation = "changed" if found.difference.count else "sliced" if alone else "packed"
    return _entry(ledger, name, tensor, relation, *found.originals, difference=found.difference)


def _copy(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    """A multiple of an original, which is sound, or what resembles one, which is not."""
    if tensor.dtype.kind != "f" or tensor.size <= SMALL:
        return None
    if tensor.ndim == 1 and not uniform(tensor) and (found := _packed_constant(ledger, name, tensor)):
        return found
    forms = [form for form in ledger.of(tensor) if not form.original.uniform()]
    for form in forms:
        if _scaled(form, tensor):
            return _entry(ledger, name, tensor, "scaled", form.original)
    lost = [form for form in forms if name in form.original.names and form.original not in ledger.used]
    nearest = max(lost or forms, key=lambda form: _likeness(form, tensor), default=None)
    if nearest is None or not (lost or _likeness(nearest, tensor) > _ALIKE):
        return None
    return _entry(ledger, name, tensor, "changed", nearest.original, difference=_compare(nearest, tensor))


def _packed_constant(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    """Biases that were never trained, packed, and no longer of one value."""
    for (size, dtype), forms in ledger.forms.items():
        if dtype != tensor.dtype or size <= SMALL or size == tensor.size or tensor.size % size:
            continue
        for original in (form.original for form in forms if form.original.values.ndim == 1 and form.original.uniform()):
            wrong = np.flatnonzero(bits(tensor) != bits(original.values)[0])
            if wrong.size * 2 < tensor.size:
                where = original.differs(int(wrong[0]) % size, tensor[wrong[0]])
                difference = Difference(count=wrong.size, where=where)
                return _entry(ledger, name, tensor, "changed", original, difference=difference)
    return None


def _scaled(form: _Form, tensor: Array) -> bool:
    """Whether all elements are the original's times one number, which is not 1."""
    for theirs, mine in (
        (form.sample.view(tensor.dtype), sampled(tensor).view(tensor.dtype)),
        (form.values(), tensor.reshape(form.values().shape)),
    ):
        wide, scaled = theirs.astype(np.float64), mine.astype(np.float64)
        ratio = float((wide * scaled).sum() / max(float((wide * wide).sum()), _TINY))
        if abs(ratio - 1) <= 10 * _CONSTANT_RATIO or (abs(scaled - ratio * wide) > _CONSTANT_RATIO * abs(scaled)).any():
            return False
    return True


def _likeness(form: _Form, tensor: Array) -> float:
    """The correlation of the two samples: 1 for a multiple, about 0 for what has nothing to do with it."""
    theirs, mine = (sample.view(tensor.dtype).astype(np.float64) for sample in (form.sample, sampled(tensor)))
    theirs, mine = theirs - theirs.mean(), mine - mine.mean()
    return float((mine * theirs).sum() / max(float(np.sqrt((mine**2).sum() * (theirs**2).sum())), _TINY))


def _unknown(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    return _entry(ledger, name, tensor, "unaccounted") if _is_weight(tensor) else None


def _entry(
    ledger: _Ledger,
    name: str,
    tensor: Array,
    relation: Relation,
    *sources: Original,
    difference: Difference | None = None,
) -> Entry:
    ledger.used.update(sources)
    return Entry(
        name=name,
        shape=tensor.shape,
        relation=relation,
        originals=tuple(source.names[0] for source in sources),
        faulty=difference.count if difference else 0,
        where=difference.where if difference else "",
    )
