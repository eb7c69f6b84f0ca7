"""The tokenizer that ships, against the model and the original's tokenizer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modelbuild.checks.sidecar import check, has_sidecar, read_object, show, vocabulary
from modelbuild.checks.subject import Subject
from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError, PackageError
from modelbuild.golden_text import FILE_NAME, Encoded, GoldenText, golden_text, read_golden_text
from modelbuild.interface import Interface
from modelbuild.model_files import TOKENIZER_CONFIG, TOKENIZER_FILES, VOCABULARY_FILES
from modelbuild.report import Check
from modelbuild.samples import sample
from modelbuild.sizes import longest, typical_sizes
from modelbuild.tasks import OPTIONAL_INPUTS, TEXT_INPUTS
from modelbuild.tokenizer import tokenizer_size

_PROBE_LENGTH = 8


def examine(subject: Subject) -> Iterator[Check]:
    """What is wrong with the tokenizer; nothing where the original has none, or none was asked for."""
    if not has_sidecar(subject):
        return
    ours, theirs = _files(subject.tokenizer), _files(subject.original_tokenizer)
    if not VOCABULARY_FILES & {*ours, *theirs}:
        return
    faults = [f"{name} is missing, which the original has" for name in theirs if name not in ours]
    faults += [fault for name in ours if name.endswith(".json") and (fault := read_object(subject.tokenizer / name)[1])]
    try:
        shipped = golden_text(subject.tokenizer, max_length=longest(subject.interface))
        size = tokenizer_size(subject.tokenizer)
    except ExportError as error:
        yield check("tokenizer present", "files with the original's", faults or [error.problems[0].what])
        return
    yield check("tokenizer present", "files with the original's", faults)
    limit = vocabulary(subject)
    yield Check(
        name="tokenizer size",
        passed=size <= limit,
        compared="ids with embedding rows",
        worst=size,
        limit=limit,
        where="" if size <= limit else f"the tokenizer has {size} ids, the model's embedding has {limit} rows",
    )
    yield check("tokenizer max length", "the model's positions", _max_length(subject))
    golden, faults = _golden(subject)
    yield check("tokenizer inputs", "the graph's and the original tokenizer's", _inputs(subject, shipped, golden))
    if golden:
        yield check("tokenizer padding side", "the original's padded batch", _padding(shipped, golden))
        yield check("tokenizer special tokens", "tokens and ids with the original's", _special(shipped, golden))
        faults = list(_texts(shipped, golden)) or list(_changed(subject))
    yield check("tokenizer parity", f"{len(shipped.texts)} texts with the original's tokens", faults)


def _files(folder: Path | None) -> tuple[str, ...]:
    return tuple(name for name in TOKENIZER_FILES if folder and (folder / name).is_file())


def _golden(subject: Subject) -> tuple[GoldenText | None, list[str]]:
    """What the original's tokenizer makes of the texts, as it ships, or why that is not known."""
    try:
        golden = read_golden_text(subject.tokenizer)
        original = subject.original_tokenizer
        if original and golden_text(original, max_length=golden.max_length) != golden:
            return None, [f"{FILE_NAME} is not what the original's tokenizer makes of its texts"]
    except (PackageError, ExportError) as error:
        return None, [error.problems[0].what]
    return golden, []


def _max_length(subject: Subject) -> Iterator[str]:
    settings, fault = read_object(subject.tokenizer / TOKENIZER_CONFIG)
    given, limit = settings.get("model_max_length"), _limit(subject.interface)
    key = f"{TOKENIZER_CONFIG} model_max_length"
    if fault or given is None:
        yield from [] if limit is None else [f"{key}: missing, the model takes {limit}"]
    elif not isinstance(given, int | float) or isinstance(given, bool) or given < 1:
        yield f"{key}: {show(given)} is no length, the model takes {limit or 'any'}"
    elif limit is not None and given > limit:
        yield f"{key}: {given:.6g}, the model takes {limit}"


def _limit(interface: Interface) -> int | None:
    """How many tokens the graph takes, None where it takes any number."""
    ids = interface.content("token_ids")
    axes = [axis for axis in interface.axes if ids and (axis.name in ids.shape or set(axis.parts) & set(ids.shape))]
    return longest(interface) if any(axis.largest for axis in axes) else None


def _inputs(subject: Subject, shipped: GoldenText, golden: GoldenText | None) -> Iterator[str]:
    if golden and set(shipped.input_names) != set(golden.input_names):
        yield f"{TOKENIZER_CONFIG} model_input_names: {shipped.input_names}, the original's are {golden.input_names}"
    for name in (name for name in subject.graph.signature.input_names() if name in TEXT_INPUTS):
        if name not in shipped.input_names and not _is_zero_by_default(subject, name):
            yield f"{TOKENIZER_CONFIG} model_input_names: no {name}, which the graph takes"


def _is_zero_by_default(subject: Subject, name: str) -> bool:
    """Whether PyTorch, given no token types, takes zeros, as Optimum does too. Then a tokenizer need not make them."""
    if name not in OPTIONAL_INPUTS or name not in subject.interface.input_names():
        return False
    sizes = typical_sizes(subject.interface, batch=1, length=_PROBE_LENGTH)
    batch = sample(subject.interface, sizes, mask="ones", rng=np.random.default_rng(0))
    zeros = batch.inputs | {name: np.zeros_like(batch.inputs[name])}
    without = {key: array for key, array in batch.inputs.items() if key != name}
    first, second = (subject.component.run(arrays) for arrays in (zeros, without))
    return all(np.allclose(first[output], second[output]) for output in first)


def _padding(shipped: GoldenText, golden: GoldenText) -> Iterator[str]:
    if shipped.padding_side != golden.padding_side:
        yield f"{TOKENIZER_CONFIG} padding_side: {shipped.padding_side}, the original's is {golden.padding_side}"
    ours, theirs = _empty_side(shipped), _empty_side(golden)
    if ours != theirs:
        yield f"attention mask of a padded batch: 0 on the {ours}, the original's on the {theirs}"


def _empty_side(golden: GoldenText) -> str:
    """The side on which the masks of a padded batch are 0, whatever the number of tokens."""
    sides = {"left": any(row[:1] == (0,) for row in golden.mask), "right": any(row[-1:] == (0,) for row in golden.mask)}
    return " and the ".join(side for side, empty in sides.items() if empty) or "neither"


def _special(shipped: GoldenText, golden: GoldenText) -> Iterator[str]:
    for role in sorted({*shipped.special_tokens, *golden.special_tokens}):
        ours, theirs = shipped.special_tokens.get(role), golden.special_tokens.get(role)
        if ours != theirs:
            yield f"{role}: {_token(ours)}, the original's is {_token(theirs)}"


def _token(token: tuple[str, int | None] | None) -> str:
    return f"{token[0]} ({token[1]})" if token else "none"


def _texts(shipped: GoldenText, golden: GoldenText) -> Iterator[str]:
    ours = {encoded.text: encoded for encoded in shipped.texts}
    for number, theirs in enumerate(golden.texts):
        if theirs.text not in ours:
            yield f"{FILE_NAME} text {number}: not the one that was compared"
        elif ours[theirs.text].ids != theirs.ids:
            yield f"text {number} {show(theirs.text)}, {_difference(ours[theirs.text], theirs)}"
    if len(golden.texts) != len(shipped.texts):
        yield f"{FILE_NAME}: {len(golden.texts)} texts, and {len(shipped.texts)} were compared"


def _changed(subject: Subject) -> Iterator[str]:
    """The files that say what is a token, and that are not the original's: texts do not reach every token."""
    original = subject.original_tokenizer
    if original is None:
        return
    for name in (*sorted(VOCABULARY_FILES), "merges.txt"):
        ours, theirs = subject.tokenizer / name, original / name
        if ours.is_file() and theirs.is_file() and sha256_file(ours) != sha256_file(theirs):
            yield f"{name} is not the original's, though the texts give the same ids"


def _difference(ours: Encoded, theirs: Encoded) -> str:
    pairs = itertools.zip_longest(ours.ids, theirs.ids)
    position = next(index for index, (one, other) in enumerate(pairs) if one != other)
    return f"position {position}: {_at(ours, position)}, the original's is {_at(theirs, position)}"


def _at(encoded: Encoded, position: int) -> str:
    return f"{encoded.tokens[position]} ({encoded.ids[position]})" if position < len(encoded.ids) else "nothing"
