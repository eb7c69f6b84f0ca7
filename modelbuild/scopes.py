"""TorchScript's scopes: torch writes into a node's name which modules it was called in.

`/encoder/layer.0/attention/self/MatMul_1` is a product in `encoder.layer.0.attention.self`; a module that is called
again gets a number (`/encoder/layer.0_1/Add`).

It cannot be had for nodes that torch makes after tracing and gives no scope: constants (`Constant_88`) and copies of
weights that are equal (`Identity_65`). Those are inferred from what they feed. Nor for modules that a wrapper or a
patch of Optimum's has in the place of the model's: such nodes belong to the deepest module of the model that is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from modelbuild.node_tags import SCOPE, Tag, all_nodes, write_tag

if TYPE_CHECKING:
    import torch

Parts = tuple[str, ...]
_CALLED_AGAIN = re.compile(r"_\d+$")


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How scopes are read: without the first `dropped` parts, which are a wrapper's, and from the module `start` on,
    which is the part of the model that was exported.
    """

    dropped: int = 0
    start: str = ""


def tag_by_scope(proto: onnx.ModelProto, module: torch.nn.Module) -> None:
    """Tag the nodes of a graph whose names have scopes that fit the modules of `module`.

    A wrapper around the model, and a part of it that was exported alone (an encoder), are noticed by what fits best;
    where two readings fit equally well, nothing is tagged.
    """
    classes = {
        path: f"{type(item).__module__}.{type(item).__qualname__}"
        for path, item in module.named_modules(remove_duplicate=False)
    }
    scoped = [(node, _parts(node.name)) for node in all_nodes(proto) if node.name.startswith("/")]
    reading = _best({parts for _, parts in scoped if parts}, classes)
    if reading is None:
        return
    for node, parts in scoped:
        rest = parts[reading.dropped :]
        chain = _resolved(rest, reading.start, classes)
        if chain or not rest:
            paths = tuple(dict.fromkeys(("", reading.start, *chain)))
            write_tag(node, Tag(scopes=paths, classes=tuple(classes[path] for path in paths), source=SCOPE))


def _parts(name: str) -> Parts:
    """`/encoder/layer.0/Add` is in `encoder` and `layer.0`."""
    return tuple(name.split("/")[1:-1])


def _resolved(parts: Sequence[str], start: str, classes: Mapping[str, str]) -> Parts:
    """The paths of the modules that `parts` lead through from `start` on, up to the first that there is not."""
    chain: list[str] = []
    for part in parts:
        above = chain[-1] if chain else start
        exact = f"{above}.{part}" if above else part
        found = next((path for path in (exact, _CALLED_AGAIN.sub("", exact)) if path in classes), None)
        if found is None:
            break
        chain.append(found)
    return tuple(chain)


def _best(scopes: set[Parts], classes: Mapping[str, str]) -> _Reading | None:
    """The reading by which the most scopes are modules: as they stand if all are, and None where no other is best."""

    def fits(reading: _Reading) -> int:
        rests = (parts[reading.dropped :] for parts in scopes)
        return sum(len(_resolved(rest, reading.start, classes)) == len(rest) for rest in rests if rest)

    plain = _Reading()
    if fits(plain) == len(scopes):
        return plain
    readings = [_Reading(dropped=dropped, start=start) for dropped in range(_shared(scopes) + 1) for start in classes]
    scores = {(reading.dropped, reading.start): fits(reading) for reading in readings}
    most = max(scores.values())
    best = [reading for reading in readings if scores[reading.dropped, reading.start] == most]
    if most == 0:
        return None
    return plain if plain in best else best[0] if len(best) == 1 else None


def _shared(scopes: set[Parts]) -> int:
    """How many parts all scopes begin with alike."""
    shortest, longest = min(scopes), max(scopes)
    pairs = zip(shortest, longest, strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(shortest), len(longest)))
