"""From states of tokens to one vector for each text, as a package's sentence-transformers files declare it.

Each way is that of `sentence_transformers.models.Pooling`, in numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.errors import PackageError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MODULES_FILE = "modules.json"
_TINY = 1e-9
_NORMALIZE, _POOLING, _TRANSFORMER = "Normalize", "Pooling", "Transformer"


def _first(states: Floats, mask: Ints) -> Floats:
    return states[:, 0]


def _largest(states: Floats, mask: Ints) -> Floats:
    return np.asarray(np.where(mask[..., None] == 1, states, np.float32(-1e9)).max(axis=1))


def _sum(states: Floats, weights: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.einsum("bsh,bs->bh", states, weights.astype(np.float32)))


def _mean(states: Floats, mask: Ints) -> Floats:
    return np.asarray(
        np.divide(_sum(states, mask), np.maximum(mask.sum(axis=1, keepdims=True), _TINY), dtype=np.float32)
    )


def _mean_by_root(states: Floats, mask: Ints) -> Floats:
    roots = np.sqrt(np.maximum(mask.sum(axis=1, keepdims=True), _TINY))
    return np.asarray(np.divide(_sum(states, mask), roots, dtype=np.float32))


def _mean_by_position(states: Floats, mask: Ints) -> Floats:
    weights = mask * np.arange(1, mask.shape[1] + 1)
    return np.asarray(
        np.divide(_sum(states, weights), np.maximum(weights.sum(axis=1, keepdims=True), _TINY), dtype=np.float32)
    )


def _last(states: Floats, mask: Ints) -> Floats:
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    rows = np.arange(len(mask))
    return np.asarray(np.multiply(states[rows, last], mask[rows, last][:, None], dtype=np.float32))


# By the key of `1_Pooling/config.json`, in the order in which several are put beside each other.
_WAYS: dict[str, Callable[[Floats, Ints], Floats]] = {
    "pooling_mode_cls_token": _first,
    "pooling_mode_max_tokens": _largest,
    "pooling_mode_mean_tokens": _mean,
    "pooling_mode_mean_sqrt_len_tokens": _mean_by_root,
    "pooling_mode_weightedmean_tokens": _mean_by_position,
    "pooling_mode_lasttoken": _last,
}


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """The ways to pool, by their keys, whose vectors are put beside each other; and whether the result has length 1."""

    ways: tuple[str, ...]
    normalize: bool

    def __call__(self, states: Floats, mask: Ints) -> Floats:
        """`states`, `(batch, sequence, hidden)`, under `mask`, `(batch, sequence)`, as `(batch, ways * hidden)`."""
        pooled = np.concatenate([_WAYS[way](states, mask) for way in self.ways], axis=1)
        if not self.normalize:
            return pooled
        lengths = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return np.asarray(np.divide(pooled, lengths, dtype=np.float32))


def read_pooling(folder: Path) -> Pooling:
    """What the package in `folder` declares. Raises PackageError where it declares none, or what is not known here."""
    if not (folder / MODULES_FILE).is_file():
        raise PackageError(
            f"the package does not say how to pool: it has no {MODULES_FILE}",
            where=str(folder),
            hint="run it, and pool its states as the model's authors do",
        )
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in _read(folder / MODULES_FILE, list)]
    if kinds[:2] != [_TRANSFORMER, _POOLING] or kinds[2:] not in ([], [_NORMALIZE]):
        raise PackageError(
            f"the text goes through {', '.join(kinds)}, and the package has only what is before the pooling",
            where=str(folder / MODULES_FILE),
            hint="run it, and do the rest yourself",
        )
    config = _read(folder / "1_Pooling" / "config.json", dict)
    if config.get("include_prompt") is False:
        raise PackageError("pooling leaves the prompt out, which is not known here", where=str(folder))
    ways = tuple(key for key, value in config.items() if key.startswith("pooling_mode") and value is True)
    unknown = [way for way in ways if way not in _WAYS]
    if unknown or not ways:
        what = f"there is no way to pool '{unknown[0]}'" if unknown else "no way to pool is declared"
        raise PackageError(what, where=str(folder / "1_Pooling"), hint=f"known are {', '.join(_WAYS)}")
    return Pooling(ways=tuple(way for way in _WAYS if way in ways), normalize=_NORMALIZE in kinds)


def _read(path: Path, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackageError(f"it cannot be read: {error}", where=str(path), hint="build the package again") from error
    if not isinstance(found, kind) or (kind is list and not all(isinstance(item, Mapping) for item in found)):
        raise PackageError("it is not what sentence-transformers writes", where=str(path))
    return found
