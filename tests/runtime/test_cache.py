"""A cache of models: one load for all who ask, never one in use thrown out, failures that do not last."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelbuild.digest import write_text
from modelbuild.errors import ClosedError, InputError, PackageError
from modelbuild.runtime import GraphMetrics, Model, ModelCache


@pytest.fixture(autouse=True)
def _folders(workspace: Path) -> None:
    """Folders of packages."""
    for name in [*"abcdefgh", "slow"]:
        (workspace / name).mkdir()


class FakeModel:
    """What a cache asks of a model: the sizes of its files, what it counted, and to be closed."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path, self.closed, self.digest = path, 0, path.name
        self.manifest = SimpleNamespace(name="fake", files={"model.onnx": SimpleNamespace(size_bytes=size_bytes)})
        self.metrics = {"model": GraphMetrics(runs=1, errors={}, buckets=(1,), seconds=0.1, slow=0, running=0)}

    def after_fork(self) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        self.closed += 1


class Loader:
    """Loads fakes, and counts them by the name of their folder."""

    def __init__(self, size_bytes: int = 10, seconds: float = 0.0) -> None:
        self.size_bytes, self.seconds = size_bytes, seconds
        self.loaded: list[str] = []
        self.models: dict[str, FakeModel] = {}
        self.broken: set[str] = set()

    def __call__(self, path: str | Path, **options: Any) -> Model:
        name = Path(path).name
        self.loaded.append(name)
        time.sleep(self.seconds)
        if name in self.broken:
            raise PackageError("it is damaged", where=name)
        self.models[name] = FakeModel(Path(path), self.size_bytes)
        return cast(Model, self.models[name])


def use(cache: ModelCache, *names: str) -> None:
    for name in names:
        with cache.use(name):
            pass


def test_a_model_is_loaded_once_and_stays_open() -> None:
    loader = Loader()
    cache = ModelCache(loader=loader)
    with cache.use("a") as first, cache.use("./a") as second:
        assert first is second
    use(cache, "a")
    assert loader.loaded == ["a"]
    assert loader.models["a"].closed == 0
    status = cache.status()
    assert (status.models, status.size_bytes, status.hits, status.loads, status.evictions) == (1, 10, 2, 1, 0)


def test_options_make_another_model() -> None:
    loader = Loader()
    cache = ModelCache(loader=loader)
    with cache.use("a", providers=["cpu"], session={"allow_spinning": False}) as one:
        with cache.use("a", session={"allow_spinning": False}, providers=["cpu"]) as same:
            assert one is same
        with cache.use("a", providers=["cpu"]) as other:
            assert other is not one
    assert loader.loaded == ["a", "a"]


def test_the_one_that_was_not_used_for_longest_goes() -> None:
    loader = Loader()
    cache = ModelCache(max_models=2, loader=loader)
    use(cache, "a", "b", "a", "c")
    assert [loader.models[name].closed for name in "abc"] == [0, 1, 0]
    use(cache, "b")
    assert loader.loaded == ["a", "b", "c", "b"]


def test_files_count_by_their_bytes() -> None:
    loader = Loader(size_bytes=40)
    cache = ModelCache(max_bytes=100, loader=loader)
    use(cache, "a", "b", "c")
    assert [loader.models[name].closed for name in "abc"] == [1, 0, 0]
    assert cache.status().size_bytes == 80


def test_one_in_use_is_never_closed() -> None:
    loader = Loader()
    cache = ModelCache(max_models=1, loader=loader)
    with cache.use("a"):
        use(cache, "b", "c")
        assert loader.models["a"].closed == 0
        assert [loader.models[name].closed for name in "bc"] == [1, 1]
    assert cache.status().models == 1
    use(cache, "d")
    assert loader.models["a"].closed == 1


def test_more_than_the_limit_are_open_only_while_they_are_in_use() -> None:
    loader = Loader()
    cache = ModelCache(max_models=1, loader=loader)
    with cache.use("a"), cache.use("b"), cache.use("c"):
        assert cache.status().models == 3
    assert cache.status().models == 1


def test_many_threads_load_once() -> None:
    loader = Loader(seconds=0.05)
    cache = ModelCache(loader=loader)
    start = threading.Barrier(64)

    def ask() -> Model:
        start.wait()
        with cache.use("a") as model:
            return model

    with ThreadPoolExecutor(64) as threads:
        found = {id(future.result()) for future in [threads.submit(ask) for _ in range(64)]}
    assert len(found) == 1
    assert loader.loaded == ["a"]


def test_a_slow_load_keeps_nobody_from_another_model() -> None:
    loader = Loader()
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: str | Path, **options: Any) -> Model:
        if Path(path).name == "slow":
            begun.set()
            assert go_on.wait(10)
        return loader(path, **options)

    cache = ModelCache(loader=slow)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(use, cache, "slow")
        assert begun.wait(10)
        use(cache, "a")
        assert not waiting.done()
        go_on.set()
        waiting.result()
    assert loader.loaded == ["a", "slow"]


def test_a_failed_load_is_an_error_for_all_who_wait_and_is_tried_again() -> None:
    loader = Loader(seconds=0.05)
    loader.broken.add("a")
    cache = ModelCache(loader=loader)
    start = threading.Barrier(32)

    def ask() -> str:
        start.wait()
        with pytest.raises(PackageError, match="it is damaged: a") as caught:
            use(cache, "a")
        return str(caught.value)

    with ThreadPoolExecutor(32) as threads:
        said = [future.result() for future in [threads.submit(ask) for _ in range(32)]]
    assert len(said) == 32
    assert loader.loaded == ["a"]
    assert cache.status().failures == 1
    loader.broken.clear()
    use(cache, "a")
    assert loader.loaded == ["a", "a"]
    assert cache.status().models == 1


def test_what_goes_wrong_inside_is_not_the_cache_s() -> None:
    loader = Loader()
    cache = ModelCache(max_models=1, loader=loader)
    with pytest.raises(LookupError), cache.use("a"):
        raise LookupError
    use(cache, "b")
    assert loader.models["a"].closed == 1


def test_after_close_nothing_is_used_and_what_is_in_use_is_closed_when_it_is_not() -> None:
    loader = Loader()
    cache = ModelCache(loader=loader)
    use(cache, "b")
    with cache.use("a"):
        cache.close()
        assert (loader.models["a"].closed, loader.models["b"].closed) == (0, 1)
        with pytest.raises(ClosedError, match="the cache of models is closed"):
            use(cache, "b")
    assert loader.models["a"].closed == 1


@pytest.mark.parametrize("limits", [{"max_models": 0}, {"max_bytes": 0}, {"max_models": -1}])
def test_limits_that_nothing_can_keep_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        ModelCache(**limits)


def _in_a_fork(body: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if body() else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def test_what_was_counted_stays_when_a_model_goes() -> None:
    with ModelCache(max_models=1, loader=Loader()) as cache:
        use(cache, "a", "b", "a")
        runs = {name: counted.runs for name, counted in cache.metrics().items()}
    assert runs == {("fake", "a", "model"): 2, ("fake", "b", "model"): 1}


def test_a_package_that_was_built_again_is_another_model(workspace: Path) -> None:
    loader = Loader()
    cache = ModelCache(loader=loader)
    for content in ("{}", "{}", "{ }"):
        if not (workspace / "a" / "manifest.json").exists() or content != "{}":
            write_text(workspace / "a" / "manifest.json", content)
        use(cache, "a")
    assert loader.loaded == ["a", "a"]


def test_options_that_say_the_same_are_one_model(package: Path) -> None:
    with ModelCache() as cache:
        several: list[dict[str, Any]] = [{}, {"verify": True}, {"slow_s": None}]
        for options in several:
            with cache.use(package, **options):
                pass
        with cache.use(f"{package.parent}/./{package.name}"):
            pass
        for providers in ("cpu", ["cpu"], ("cpu",)):
            with cache.use(package, providers=providers):
                pass
        assert cache.status().loads == 2
        with pytest.raises(InputError, match="are no providers"), cache.use(package, providers={"cpu"}):
            pass
        with (
            pytest.raises(TypeError, match="unexpected keyword argument 'provider'"),
            cache.use(package, provider="cpu"),
        ):
            pass


def test_an_interruption_is_that_of_who_loads_alone() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def loader(path: str | Path, **options: Any) -> Model:
        begun.set()
        assert go_on.wait(10)
        raise KeyboardInterrupt

    cache = ModelCache(loader=loader)

    def ask() -> str:
        try:
            use(cache, "a")
        except BaseException as error:
            return type(error).__name__
        return ""

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask)
        assert begun.wait(10)
        second = threads.submit(ask)
        while cache.status().hits == 0:
            time.sleep(0.001)
        go_on.set()
        assert (first.result(), second.result()) == ("KeyboardInterrupt", "HostError")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_off_begins_with_an_empty_cache() -> None:
    loader = Loader()
    cache = ModelCache(loader=loader)
    with cache.use("a") as model:

        def body() -> bool:
            with cache.use("a") as other:
                return other is not model and cache.status().models == 1

        assert _in_a_fork(body)
    assert loader.loaded == ["a"]


def test_a_package_is_used_from_the_cache(package: Path) -> None:
    with ModelCache() as cache, cache.use(package) as model:
        outputs = model.run({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]})
    assert outputs["states"].shape == (1, 2, 4)
    with pytest.raises(ClosedError):
        model.run({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]})


@pytest.mark.slow
def test_a_hundred_models_go_through_a_cache_of_four(package: Path) -> None:
    loaded: list[Model] = []

    def noted(path: str | Path, **options: Any) -> Model:
        from modelbuild.runtime import load

        loaded.append(load(path, **options))
        return loaded[-1]

    with ModelCache(max_models=4, loader=noted) as cache:

        def ask(number: int) -> bool:
            with cache.use(package, slow_s=float(number % 100 + 1)) as model:
                found = model.run({"input_ids": [[number % 10]], "attention_mask": [[1]]})["states"]
            return bool(found.shape == (1, 1, 4))

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(ask, range(400)))
        assert cache.status().models <= 4
    assert all(model.closed for model in loaded)
