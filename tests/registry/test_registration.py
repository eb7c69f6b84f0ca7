"""`register.*` is looked at before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelbuild.config.compose import compose, compose_sweep
from modelbuild.errors import ConfigError, HostError
from modelbuild.registry import Registry, registration
from modelbuild.registry.store import ENVIRONMENT

Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nam": "minilm"}, "unknown key: register.nam: did you mean 'name'"),
        ({"version": "1.0.0"}, "it needs a name: register.version: set register.name"),
        ({"name": "MiniLM"}, "'MiniLM' is no name: register.name"),
        ({"name": "../minilm"}, "is no name: register.name"),
        ({"name": "minilm", "version": "1.0"}, "'1.0' is no semantic version: register.version"),
        ({"name": "minilm", "stage": "Pro duction"}, "is no stage: register.stage"),
        ({"name": 7}, "a text is wanted, got 7: register.name: quote it"),
    ],
)
def test_what_cannot_be_is_said_with_its_key(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        registration(values, tmp_path)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        registration({"name": "A", "version": "one"}, tmp_path)
    assert len(refused.value.problems) == 2


def test_nothing_is_registered_where_nothing_is_asked_for(tmp_path: Path) -> None:
    assert registration(None, tmp_path) is None
    assert registration({"name": None, "registry": str(tmp_path)}, tmp_path) is None


def test_a_package_is_published_as_asked(tmp_path: Path, package: Make) -> None:
    asked = registration({"name": "minilm", "stage": "production", "registry": "mine"}, tmp_path)
    assert asked is not None
    assert asked.publish(package("a")).version == "1.0.0"
    assert asked.publish(package("a")).version == "1.0.0"  # the same again
    assert asked.publish(package("b")).version == "1.1.0"
    assert Registry(tmp_path / "mine").stages("minilm") == {"production": "1.1.0"}


def test_overrides_ask_for_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(workspace / "shared"))
    found = compose(["model=bert-tiny", "register.name=minilm", "register.version=1.2.0"], workspace).registration
    assert found is not None
    assert (found.name, found.version, found.registry.root) == ("minilm", "1.2.0", workspace / "shared")
    with pytest.raises(ConfigError, match=r"there is no key 'register\.nam': overrides: did you mean 'register\.name'"):
        compose(["register.nam=minilm"], workspace)
    with pytest.raises(ConfigError, match=r"not proven is not published: register\.name: set validation=quick"):
        compose(["validation=off", "register.name=minilm"], workspace)
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(HostError, match="no registry is known"):
        compose(["register.name=minilm"], workspace)


def test_the_jobs_of_a_sweep_are_not_published_as_one(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(workspace / "shared"))
    with pytest.raises(ConfigError, match=r"2 jobs would be published as 'minilm': register\.name: publish what you"):
        compose_sweep(["model=bert-tiny", "opset=17,18", "register.name=minilm"], workspace)
    assert len(compose_sweep(["model=bert-tiny", "opset=18", "register.name=minilm,other"], workspace)) == 2
