"""Many models in little memory: the ones that were used last stay open."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelbuild.errors import ClosedError, HostError
from modelbuild.manifest import FILE_NAME
from modelbuild.package_folder import package_folder
from modelbuild.runtime.forks import tell_of_forks
from modelbuild.runtime.load import load
from modelbuild.runtime.metrics import GraphMetrics, Series, merged
from modelbuild.runtime.model import Model

Key = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class CacheStatus:
    """What a cache holds now, and what it did: models that are open and their bytes, how often one was there (`hits`),
    had to be loaded (`loads`), could not be (`failures`) and had to go (`evictions`).
    """

    models: int
    size_bytes: int
    hits: int
    loads: int
    failures: int
    evictions: int


@dataclass(kw_only=True, eq=False)
class _Entry:
    """A model that is open or on its way. `users` are at it just now."""

    model: Future[Model] = field(default_factory=Future)
    size_bytes: int = 0
    users: int = 0


class ModelCache:
    """Open models by package and options: at most `max_models` of them, and files of at most `max_bytes` together.

        cache = ModelCache(max_models=4)
        with cache.use("artifacts/minilm/package") as model:
            outputs = model.run(inputs)

    What is asked for by many threads at once is loaded once, and all of them wait for it. The model that was not used
    for longest goes first, but never one that is in use: where all are, the cache holds more than its limits until one
    is not. A model that could not be loaded is an error for those who waited, and is tried again by the next who asks.
    A process that is forked off begins with an empty cache.
    """

    def __init__(
        self, *, max_models: int = 8, max_bytes: int | None = None, loader: Callable[..., Model] = load
    ) -> None:
        """Raises ValueError for limits that nothing can keep."""
        if max_models < 1 or (max_bytes is not None and max_bytes < 1):
            raise ValueError(f"max_models={max_models} and max_bytes={max_bytes} must be 1 or more")
        self._max_models, self._max_bytes, self._loader = max_models, max_bytes, loader
        self._options = inspect.signature(loader)
        self._closed = False
        self._begin()
        tell_of_forks(self)

    def _begin(self) -> None:
        """Hold nothing: at first, and in a process that was forked off."""
        self._lock = threading.Lock()
        self._past: dict[Series, GraphMetrics] = {}
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # the one that was not used for longest first
        self._hits = self._loads = self._failures = self._evictions = 0

    def after_fork(self) -> None:
        """Hold nothing: no session works in this process. Each model is told of the fork by itself."""
        self._begin()

    @contextmanager
    def use(self, path: str | Path, **options: Any) -> Iterator[Model]:
        """The model of the package at `path`, loaded with `options`, which are those of `load`; it stays open as long
        as the context lasts. A name in a registry, or a folder, means what it means now: where another version is in
        the stage, or the package was built again, that is another model.

        Raises what `load` raises, and ClosedError after `close`.
        """
        folder = package_folder(path)
        given = self._options.bind(folder, **options)
        given.apply_defaults()
        _, *chosen = {**given.arguments, **_named(options)}.items()
        key = (folder.resolve(), _state(folder), _hashable(dict(chosen)))
        entry, mine = self._enter(key)
        try:
            if mine:
                self._load(key, entry, folder, options)
            yield entry.model.result()
        finally:
            self._leave(entry)

    def _enter(self, key: Key) -> tuple[_Entry, bool]:
        """The entry, with one more user, and whether that user is to load it."""
        with self._lock:
            if self._closed:
                raise ClosedError("the cache of models is closed")
            entry = self._entries.get(key)
            mine = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry()
                self._loads += 1
            else:
                self._hits += 1
            entry.users += 1
            self._entries.move_to_end(key)
            return entry, mine

    def _load(self, key: Key, entry: _Entry, folder: Path, options: Mapping[str, Any]) -> None:
        """Load the model, outside of the lock: others go on meanwhile."""
        try:
            model = self._loader(folder, **options)
        except BaseException as error:
            with self._lock:
                self._failures += 1
                if self._entries.get(key) is entry:
                    del self._entries[key]
            if isinstance(error, Exception):
                entry.model.set_exception(error)
                return
            entry.model.set_exception(HostError("its load was interrupted", where=str(folder), hint="ask for it again"))
            raise
        with self._lock:
            entry.size_bytes = sum(record.size_bytes for record in model.manifest.files.values())
        entry.model.set_result(model)
        self._evict()

    def _leave(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
        self._evict()

    def _evict(self) -> None:
        """Close what is too much and in nobody's use."""
        with self._lock:
            gone = []
            for key, entry in list(self._entries.items()):
                if not self._is_too_much():
                    break
                if entry.users == 0 and entry.model.done():
                    gone.append(self._entries.pop(key))
            self._evictions += 0 if self._closed else len(gone)
            if gone:
                self._past = merged([self._past, *(series(entry.model.result()) for entry in gone)])
        for entry in gone:
            entry.model.result().close()

    def _is_too_much(self) -> bool:
        held = sum(entry.size_bytes for entry in self._entries.values())
        too_large = self._max_bytes is not None and held > self._max_bytes
        return self._closed or len(self._entries) > self._max_models or too_large

    def status(self) -> CacheStatus:
        """What the cache holds, and what it did until now."""
        with self._lock:
            return CacheStatus(
                models=len(self._entries),
                size_bytes=sum(entry.size_bytes for entry in self._entries.values()),
                hits=self._hits,
                loads=self._loads,
                failures=self._failures,
                evictions=self._evictions,
            )

    def models(self) -> tuple[Model, ...]:
        """The models that are open now, the one that was not used for longest first."""
        with self._lock:
            return tuple(_open(self._entries.values()))

    def metrics(self) -> dict[Series, GraphMetrics]:
        """What was counted by name, digest and graph: of the models that are open, and of those that had to go."""
        with self._lock:
            entries, past = list(self._entries.values()), self._past
        return merged([past, *map(series, _open(entries))])

    def close(self) -> None:
        """Close every model, those in use when they no longer are. Nothing can be used after it."""
        with self._lock:
            self._closed = True
        self._evict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def series(model: Model) -> dict[Series, GraphMetrics]:
    """What a model counted, by its name, its digest and the graph."""
    return {(model.manifest.name, model.digest, graph): counted for graph, counted in model.metrics.items()}


def _open(entries: Iterable[_Entry]) -> list[Model]:
    return [entry.model.result() for entry in entries if entry.model.done() and not entry.model.exception()]


def _state(folder: Path) -> tuple[int, ...]:
    """Another one after the package was built again: it is a new file then."""
    try:
        found = (folder / FILE_NAME).stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """One name is the same as a list of it."""
    providers = options.get("providers")
    return {"providers": [providers]} if isinstance(providers, str) else {}


def _hashable(value: Any) -> object:
    """`value` as a key: mappings, sets and sequences by what is in them, everything else by itself."""
    if isinstance(value, Mapping):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, Set):
        return frozenset(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(_hashable(item) for item in value)
    return value
