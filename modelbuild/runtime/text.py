"""Texts in, vectors out: the tokenizer of a package, its graph and its pooling. Needs the library `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modelbuild.errors import HostError, InputError, PackageError, first_line
from modelbuild.manifest import Manifest
from modelbuild.runtime.pooling import Floats, read_pooling

TOKENIZER_FILE = "tokenizer.json"
_PROMPTS_FILE = "config_sentence_transformers.json"
_NO_LIMIT = 1 << 31
_STATES = "last_hidden_state"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Runnable(Protocol):
    """What a text encoder asks of a model."""

    manifest: Manifest
    folder: Path

    def run(self, inputs: Mapping[str, Any], graph: str | None = None) -> dict[str, npt.NDArray[Any]]: ...


class TextEncoder:
    """The way from texts to vectors that a package declares. All threads may share one."""

    def __init__(self, model: Runnable) -> None:
        """Raises HostError where `tokenizers` is not installed, and PackageError where the package has no tokenizer or
        does not say how to pool.
        """
        self._model = model
        self._wanted = _inputs_of(model.manifest, model.folder)
        self._pooling = read_pooling(model.folder)
        (graph,) = model.manifest.graphs.values()
        self._most = graph.limits.get(graph.batch, _NO_LIMIT)
        self._tokenizer, self._padding = _tokenizer(model.folder, _longest(model))
        self._prompt = _prompt(model.folder)
        self._lower = bool(_settings(model.folder, "sentence_bert_config.json").get("do_lower_case", False))

    def encode(self, texts: str | Sequence[str], batch_size: int = 32) -> Floats:
        """A vector for each text, `(texts, size)`; for one text alone `(size,)`. Longer texts are cut to what the model
        takes; they are run by length, `batch_size` at once, and come back in their own order.

        Raises InputError for what is no text, and what `run` raises.
        """
        several = [texts] if isinstance(texts, str) else _checked(texts)
        _require_batch(batch_size)
        encodings = self._encodings(several)
        order = sorted(range(len(several)), key=lambda place: len(encodings[place].ids))
        vectors: dict[int, Floats] = {}
        for places in _cut(order, min(batch_size, self._most)):
            vectors |= zip(places, self._batch([encodings[place] for place in places]), strict=True)
        found = np.stack([vectors[place] for place in range(len(several))]) if several else self._nothing()
        return found[0] if isinstance(texts, str) else found

    def _encodings(self, texts: Sequence[str]) -> list[Any]:
        try:
            found: list[Any] = self._tokenizer.encode_batch_fast([self._prepared(text) for text in texts])
        except Exception as error:
            raise InputError(f"a text cannot be read: {first_line(error)}", hint="is it Unicode?") from error
        for place, encoding in enumerate(found):
            if not encoding.ids:
                raise InputError(f"text {place} has no tokens", hint="leave it out")
        return found

    def _nothing(self) -> Floats:
        """No vectors, of the size that they would have where the graph says it."""
        (graph,) = self._model.manifest.graphs.values()
        (states,) = [tensor for tensor in graph.signature.outputs if tensor.name == _STATES]
        size = states.shape[-1]
        return np.zeros((0, size * len(self._pooling.ways) if isinstance(size, int) else 0), np.float32)

    def _prepared(self, text: str) -> str:
        text = self._prompt + text
        return text.lower() if self._lower else text

    def _batch(self, encodings: Sequence[Any]) -> Floats:
        longest = max(len(encoding.ids) for encoding in encodings)
        inputs = {name: np.zeros((len(encodings), longest), np.int64) for name in _INPUTS}
        inputs["input_ids"][:] = self._padding
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            inputs["input_ids"][row, :length] = encoding.ids
            inputs["attention_mask"][row, :length] = encoding.attention_mask
            inputs["token_type_ids"][row, :length] = encoding.type_ids
        states = self._model.run({name: inputs[name] for name in self._wanted})[_STATES]
        return self._pooling(states.astype(np.float32, copy=False), inputs["attention_mask"])


def _require_batch(size: Any) -> None:
    if not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size is {size!r}, and must be 1 or more")


def _checked(texts: Any) -> list[str]:
    """Raises InputError for what is no text, or none of several."""
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise InputError(f"a text or a list of texts is wanted, got {type(texts).__name__}")
    several = list(texts)
    for place, text in enumerate(several):
        if not isinstance(text, str):
            raise InputError(f"text {place} is {type(text).__name__}, and not str")
    return several


def _prompt(folder: Path) -> str:
    """What the model wants before each text, if it does not say otherwise."""
    settings = _settings(folder, _PROMPTS_FILE)
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise PackageError("its prompts are no JSON object", where=str(folder / _PROMPTS_FILE), hint="build it again")
    return str(prompts.get(settings.get("default_prompt_name"), ""))


def _inputs_of(manifest: Manifest, folder: Path) -> tuple[str, ...]:
    if len(manifest.graphs) != 1:
        raise PackageError("a package of several graphs encodes no texts", where=str(folder))
    (graph,) = manifest.graphs.values()
    names = graph.signature.input_names()
    other = [name for name in names if name not in _INPUTS]
    if other or _STATES not in graph.signature.output_names():
        what = f"takes {other[0]}" if other else f"gives no {_STATES}"
        raise PackageError(f"a model that {what} encodes no texts", where=str(folder), hint="use run")
    return names


def _longest(model: Runnable) -> int | None:
    """How many tokens the model takes: the least of what the package says."""
    (graph,) = model.manifest.graphs.values()
    (ids,) = [tensor for tensor in graph.signature.inputs if tensor.name == "input_ids"]
    said = [
        graph.limits.get(str(ids.shape[-1])),
        _settings(model.folder, "sentence_bert_config.json").get("max_seq_length"),
        _settings(model.folder, "tokenizer_config.json").get("model_max_length"),
    ]
    # Tokenizers without a limit say 1e30.
    numbers = [int(number) for number in said if isinstance(number, int | float) and 0 < number < _NO_LIMIT]
    return min(numbers, default=None)


def _tokenizer(folder: Path, longest: int | None) -> tuple[Any, int]:
    """The tokenizer, which cuts at `longest` and fills nothing up, and the id that rows are filled up with: the model
    sees none of it, but it must be in the vocabulary.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise HostError("tokenizers is not installed", hint="pip install 'modelbuild[text]'") from error
    if not (folder / TOKENIZER_FILE).is_file():
        raise PackageError(f"the package has no {TOKENIZER_FILE}", where=str(folder), hint="build it with sidecar=full")
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:
        raise PackageError(f"{TOKENIZER_FILE} cannot be read: {error}", where=str(folder)) from error
    named = _settings(folder, "tokenizer_config.json").get("pad_token")
    name = named.get("content") if isinstance(named, dict) else named
    declared = (tokenizer.padding or {}).get("pad_id")
    padding = declared if declared is not None else tokenizer.token_to_id(str(name))
    tokenizer.no_padding()
    own = tokenizer.truncation or {}
    if longest is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(longest, direction=own.get("direction", "right"))
    return tokenizer, padding or 0


def _settings(folder: Path, name: str) -> Mapping[str, Any]:
    path = folder / name
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackageError(f"it cannot be read: {error}", where=str(path), hint="build the package again") from error
    if not isinstance(found, dict):
        raise PackageError("it is no JSON object", where=str(path), hint="build the package again")
    return found


def _cut(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
