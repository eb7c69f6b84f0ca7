"""Which tensors of the original the weights of a graph are, or are made of. Pure numpy.

In this order: what is quantized, to half a step; a tensor as it is, or rounded to 16 bits, or transposed, bit by bit;
one with its gates in ONNX's order; one put together from vectors of others; one that a batch normalization was folded
into; a scaled or changed copy. What is left is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from modelbuild.weights.entries import Account, Entry, Relation
from modelbuild.weights.folded import Norm, unfold
from modelbuild.weights.forms import Form, compare, likeness, relation, scaled
from modelbuild.weights.gates import Order, regated
from modelbuild.weights.pieces import VectorIndex
from modelbuild.weights.quantized import Quantized, unround
from modelbuild.weights.rounding import is_float
from modelbuild.weights.rows import in_a_row
from modelbuild.weights.tensors import Array, Difference, Original, bits, distinct, sampled, uniform

# Smaller tensors are scalars and shapes more often than weights. They are matched, and never missed.
SMALL = 8
_ALIKE = 0.9


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
    quantized: Sequence[Quantized] = (),
) -> Account:
    """The account of a graph's `tensors` by the tensors of the original, parameters and buffers, by name; its `norms`
    may have been folded into them, and `gates` says which of them have gates, and in which order ONNX has those.
    `quantized` says which tensors are parts of quantized ones.

    Tensors of up to 8 elements, those of one value throughout and integers of fewer than two axes are in it only if
    they are an original's.
    """
    known = distinct(originals)
    given = [(name, np.ascontiguousarray(tensor)) for name, tensor in tensors]
    narrow = {tensor.dtype for _, tensor in given if is_float(tensor.dtype) and tensor.dtype.itemsize == 2}
    ledger = _ledger(known, norms, gates, narrow)
    found, parts = _rounded(ledger, [name for name, _ in given], quantized)
    for step in (_whole, _regated, _assembled, _folded, _copy, _unknown):
        for number, (name, tensor) in enumerate(given):
            entry = None if number in found or name in parts else step(ledger, name, tensor)
            if entry is not None:
                found[number] = entry
    return Account(
        entries=tuple(found[number] for number in sorted(found)),
        absent=tuple(original for original in known if original not in ledger.used),
    )


def _ledger(
    known: tuple[Original, ...], norms: Sequence[Norm], gates: Mapping[str, Order], narrow: Set[np.dtype[Any]]
) -> _Ledger:
    wide = {original.values.dtype for original in known}
    halves = [
        original.rounded(dtype)
        for dtype in sorted(narrow - wide, key=str)
        for original in known
        if original.values.dtype == np.float32
    ]
    originals = (*known, *halves)
    forms: dict[tuple[int, np.dtype[Any]], list[Form]] = {}
    by_dtype: dict[np.dtype[Any], list[Original]] = {}
    for original in originals:
        values = original.values
        for transposed in (False, True) if values.ndim == 2 and min(values.shape) > 1 else (False,):
            form = Form(original=original, transposed=transposed, sample=sampled(values, transposed=transposed))
            forms.setdefault((values.size, values.dtype), []).append(form)
        by_dtype.setdefault(values.dtype, []).append(original)
    vectors = {dtype: VectorIndex(originals=group) for dtype, group in by_dtype.items()}
    return _Ledger(forms=forms, vectors=vectors, originals=originals, norms=norms, gates=gates)


def _rounded(
    ledger: _Ledger, names: Sequence[str], quantized: Sequence[Quantized]
) -> tuple[dict[int, Entry], set[str]]:
    """What is quantized, by the place of its numbers among the tensors, and the names of all that it is made of."""
    found, used = dict[int, Entry](), set[str]()
    exact = [original for original in ledger.originals if original.exact is None]
    for item in quantized:
        made = unround(item, exact)
        used |= item.parts | ({item.smoothing[0]} if made and made.smoothed and item.smoothing else set())
        sources = made.originals if made else ()
        how: Relation = "unaccounted" if not made else "changed" if made.difference.count else "quantized"
        entry = _entry(ledger, item.name, item.shape, how, *sources, difference=made.difference if made else None)
        found[names.index(item.name)] = entry
    return found, used


def _is_weight(tensor: Array) -> bool:
    numbers = is_float(tensor.dtype) or (tensor.dtype.kind in "iu" and tensor.ndim >= 2)
    return tensor.size > SMALL and numbers and not uniform(tensor)


def _whole(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    """The original that has at least half of its elements from this, at the same places. One bit-equal at all of them
    goes before others, and one of the same name before those that are as near.
    """
    if not is_float(tensor.dtype) and tensor.ndim < 2:
        return None
    sample = sampled(tensor)
    shares = [(float((form.sample == sample).mean()), name in form.original.names, form) for form in ledger.of(tensor)]
    nearest: tuple[Form, Difference] | None = None
    for share, _, form in sorted(shares, key=lambda item: item[:2], reverse=True):
        if share < 0.5:
            break
        difference = compare(form, tensor)
        if not difference.count:
            return _entry(ledger, name, tensor.shape, relation(form, tensor), form.original)
        if nearest is None or difference.count < nearest[1].count:
            nearest = form, difference
    if nearest is None or nearest[1].count * 2 > tensor.size:
        return None
    form, difference = nearest
    # Zeros and small tensors resemble each other by chance.
    telling = tensor.size > SMALL and not form.original.uniform()
    if not telling and name not in form.original.names:
        return None
    return _entry(ledger, name, tensor.shape, "changed", form.original, difference=difference)


def _regated(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if not ledger.gates or not _is_weight(tensor):
        return None
    found = regated(tensor, ledger.originals, ledger.gates)
    return _entry(ledger, name, tensor.shape, "reordered", *found) if found else None


def _assembled(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if not _is_weight(tensor) or tensor.dtype not in ledger.vectors:
        return None
    if tensor.ndim == 1 and tensor.dtype.itemsize == 2 and (row := in_a_row(tensor, ledger.originals)):
        return _entry(ledger, name, tensor.shape, "changed" if row[1].count else "packed", *row[0], difference=row[1])
    found = ledger.vectors[tensor.dtype].explain(tensor)
    if found is None:
        return None
    alone = len(found.originals) == 1 and tensor.size < found.originals[0].values.size
    relation: Relation = "changed" if found.difference.count else "sliced" if alone else "packed"
    return _entry(ledger, name, tensor.shape, relation, *found.originals, difference=found.difference)


def _folded(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    if not is_float(tensor.dtype):
        return None
    originals = [form.original.exact or form.original for form in ledger.of(tensor) if not form.transposed]
    found = unfold(tensor, originals, ledger.norms)
    if found is None:
        return None
    # Of a few elements, half may be what a normalization says by chance.
    if found.difference.count and tensor.size <= SMALL and name not in found.names:
        return None
    how: Relation = "changed" if found.difference.count else "folded"
    used = [item for item in ledger.originals if not item.exact and set(found.names).intersection(item.names)]
    return _entry(ledger, name, tensor.shape, how, *used, difference=found.difference)


def _copy(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    """A multiple of an original, which is sound, or what resembles one, which is not."""
    if not is_float(tensor.dtype) or tensor.size <= SMALL:
        return None
    if tensor.ndim == 1 and not uniform(tensor) and (found := _packed_constant(ledger, name, tensor)):
        return found
    forms = [form for form in ledger.of(tensor) if not form.original.uniform()]
    for form in forms:
        if scaled(form, tensor):
            return _entry(ledger, name, tensor.shape, "scaled", form.original)
    lost = [
        form
        for form in forms
        if name in form.original.names and (form.original.exact or form.original) not in ledger.used
    ]
    nearest = max(lost or forms, key=lambda form: likeness(form, tensor), default=None)
    if nearest is None or not (lost or likeness(nearest, tensor) > _ALIKE):
        return None
    return _entry(ledger, name, tensor.shape, "changed", nearest.original, difference=compare(nearest, tensor))


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
                return _entry(ledger, name, tensor.shape, "changed", original, difference=difference)
    return None


def _unknown(ledger: _Ledger, name: str, tensor: Array) -> Entry | None:
    return _entry(ledger, name, tensor.shape, "unaccounted") if _is_weight(tensor) else None


def _entry(
    ledger: _Ledger,
    name: str,
    shape: tuple[int, ...],
    relation: Relation,
    *sources: Original,
    difference: Difference | None = None,
) -> Entry:
    ledger.used.update(source.exact or source for source in sources)
    whole = relation in ("equal", "transposed", "reshaped")
    return Entry(
        name=name,
        shape=shape,
        relation="rounded" if whole and sources[0].exact else relation,
        originals=tuple(source.names[0] for source in sources),
        faulty=difference.count if difference else 0,
        where=difference.where if difference else "",
    )
