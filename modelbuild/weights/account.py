"""Which tensors of the original the weights of a graph are, or are made of. Pure numpy.

In this order: a tensor as it is or transposed, bit by bit; one with its gates in ONNX's order; one put together from
vectors of others; one that a batch
normalization was folded into; a scaled or changed copy. What is left is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from modelbuild.weights.folded import Norm, unfold
from modelbuild.weights.forms import Form, compare, likeness, relation, scaled
from modelbuild.weights.gates import Order, regated
from modelbuild.weights.pieces import VectorIndex
from modelbuild.weights.tensors import Array, Difference, Original, bits, distinct, sampled, uniform

# Smaller tensors are scalars and shapes more often than weights. They are matched, and never missed.
SMALL = 8
_ALIKE = 0.9

Relation = Literal[
    "equal", "transposed", "reshaped", "reordered", "packed", "sliced", "folded", "scaled", "changed", "unaccounted"
]  # fmt: skip


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
class _Ledger:
    """The originals in every order that a tensor may have them in, and those that were found."""

    forms: Mapping[tuple[int, np.dtype[Any]], list[Form]]
    vectors: Mapping[np.dtype[Any], VectorIndex]
    originals: tuple[Original, ...]
    norms: Sequence[Norm]
    gates: Mapping[str, Order]
    used: set[Original] = field(default_factory=set)

    def of(self, tensor: Array) -> list[Form]:
        return self.forms.get((tensor.size, tensor.dtype), [])


def account_for(
    tensors: Iterable[tuple[str, Array]],
    originals: Mapping[str, Array],
    norms: Sequence[Norm] = (),
    gates: Mapping[str, Order] = MappingProxyType({}),
) -> Account:
    """The account of a graph's `tensors` by the tensors of the original, parameters and buffers, by name; its `norms`
    may have been folded into them, and `gates` says which of them have gates, and in which order ONNX has those.

    Tensors of up to 8 elements, those of one value throughout and integers of fewer than two axes are in it only if
    they are an original's.
    """
    known = distinct(originals)
    ledger = _ledger(known, norms, gates)
    given = [(name, np.ascontiguousarray(tensor)) for name, tensor in tensors]
    found: dict[int, Entry] = {}
    for step in (_whole, _regated, _assembled, _folded, _copy, _unknown):
        for number, (name, tensor) in enumerate(given):
            entry = None if number in found else step(ledger, name, tensor)
            if entry is not None:
                found[number] = entry
    return Account(
        entries=tuple(found[number] for number in sorted(found)),
        absent=tuple(original for original in known if original not in ledger.used),
    )


def _ledger(originals: tuple[Original, ...], norms: Sequence[Norm], gates: Mapping[str, Order]) -> _Ledger:
    forms: dict[tuple[int, np.dtype[Any]], list[Form]] = {}
    by_dtype: dict[np.dtype[Any], list[Original]] = {}
    for original in originals:
        values = original.values
        for transposed in (False, True) if values.ndim == 2 and min(values.shape) > 1 else (False,):
            form = Form(original=original, transposed=transposed, sample=sampled(values, transposed=transposed))
            forms.setdefault((values.size, values.dtype), []).append(form)
        by_dtype.setdefault(values.dtype, []).append(original)
    vectors = {dtype: VectorIndex(originals=known) for dtype, known in by_dtype.items()}
    return _Ledger(forms=forms, vectors=vectors, originals=originals, norms=norms, gates=gates)


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
    nearest: tuple[Form, Difference] | None = None
    for share, _, form in sorted(shares, key=lambda item: item[:2], reverse=True):
        if share < 0.5:
            break
        difference = compare(form, tensor)
        if not difference.count:
            return _entry(ledger, name, tensor, relation(form, tensor), form.original)
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


def _regated(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if not ledger.gates or not _is_weight(tensor):
        return None
    found = regated(tensor, ledger.originals, ledger.gates)
    return _entry(ledger, name, tensor, "reordered", *found) if found else None


def _assembled(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if not _is_weight(tensor) or tensor.dtype not in ledger.vectors:
        return None
    found = ledger.vectors[tensor.dtype].explain(tensor)
    if found is None:
        return None
    alone = len(found.originals) == 1 and tensor.size < found.originals[0].values.size
    relation: Relation = "changed" if found.difference.count else "sliced" if alone else "packed"
    return _entry(ledger, name, tensor, relation, *found.originals, difference=found.difference)


def _folded(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if tensor.dtype.kind != "f":
        return None
    originals = [form.original for form in ledger.of(tensor) if not form.transposed]
    found = unfold(tensor, originals, ledger.norms)
    if found is None:
        return None
    # Of a few elements, half may be what a normalization says by chance.
    if found.difference.count and tensor.size <= SMALL and name not in found.names:
        return None
    how: Relation = "changed" if found.difference.count else "folded"
    used = [original for original in ledger.originals if set(found.names).intersection(original.names)]
    return _entry(ledger, name, tensor, how, *used, difference=found.difference)


def _copy(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    """A multiple of an original, which is sound, or what resembles one, which is not."""
    if tensor.dtype.kind != "f" or tensor.size <= SMALL:
        return None
    if tensor.ndim == 1 and not uniform(tensor) and (found := _packed_constant(ledger, name, tensor)):
        return found
    forms = [form for form in ledger.of(tensor) if not form.original.uniform()]
    for form in forms:
        if scaled(form, tensor):
            return _entry(ledger, name, tensor, "scaled", form.original)
    lost = [form for form in forms if name in form.original.names and form.original not in ledger.used]
    nearest = max(lost or forms, key=lambda form: likeness(form, tensor), default=None)
    if nearest is None or not (lost or likeness(nearest, tensor) > _ALIKE):
        return None
    return _entry(ledger, name, tensor, "changed", nearest.original, difference=compare(nearest, tensor))


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
