"""Whatever happens to one file of a package, loading it refuses, and says which file."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelbuild.errors import PackageError
from modelbuild.manifest import FILE_NAME, read_manifest, sealed, write_manifest
from modelbuild.package_files import record_files
from modelbuild.runtime import load

Damage = Callable[[Path, int], str]
# The same hundred examples everywhere; whoever changes what is read draws more.
_SETTINGS = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def whole(package: Path) -> Path:
    """A package with two files of equal size, and one in a folder."""
    (package / "vocab.txt").write_text("a b c")
    (package / "merges.txt").write_text("d e f")
    (package / "1_Pooling").mkdir()
    (package / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    manifest = read_manifest(package)
    write_manifest(manifest.__class__(**vars(manifest) | {"files": record_files(package)}), package)
    load(package)
    return package


@contextmanager
def copy_of(package: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(package, Path(folder) / "package"))


def names(package: Path) -> list[str]:
    return sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file())


def flipped(path: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where // 8 % len(content)] ^= 1 << where % 8
    path.write_bytes(content)


def cut(path: Path, where: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: where % len(content)])


def longer(path: Path, where: int) -> None:
    path.write_bytes(path.read_bytes() + bytes([where % 256]))


def removed(path: Path, where: int) -> None:
    path.unlink()


def linked(path: Path, where: int) -> None:
    target = path.rename(path.parents[1] / f"elsewhere{where}")
    path.symlink_to(target)


@_SETTINGS
@given(st.sampled_from([flipped, cut, longer, removed, linked]), st.integers(0, 1 << 30), st.data())
def test_a_file_that_is_not_what_was_built_is_named(
    whole: Path, damage: Callable[[Path, int], None], where: int, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(names(whole)))
    with copy_of(whole) as package:
        damage(package / name, where)
        with pytest.raises(PackageError) as refused:
            load(package)
        assert name in str(refused.value) or (name == FILE_NAME and "the package has format" in str(refused.value))


@_SETTINGS
@given(st.sampled_from(["vocab.txt", "merges.txt", "1_Pooling/config.json", "model.onnx", "config.json"]), st.data())
def test_files_that_changed_places_are_named(whole: Path, first: str, data: st.DataObject) -> None:
    second = data.draw(st.sampled_from([name for name in names(whole) if name not in (first, FILE_NAME)]))
    with copy_of(whole) as package:
        content = (package / first).read_bytes()
        (package / first).write_bytes((package / second).read_bytes())
        (package / second).write_bytes(content)
        with pytest.raises(PackageError) as refused:
            load(package)
        assert first in str(refused.value)
        assert second in str(refused.value)


@_SETTINGS
@given(
    st.text("abcXYZ012._- äß", min_size=1, max_size=20),
    st.binary(max_size=10),
    st.sampled_from(["", "1_Pooling", "new"]),
)
@example("model.onnx.data", b"", "")
@example(".hidden", b"", "")
def test_a_file_that_does_not_belong_to_it_is_named(whole: Path, name: str, content: bytes, folder: str) -> None:
    with copy_of(whole) as package:
        path = package / folder / name
        if name in (".", "..") or path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(PackageError) as refused:
            load(package)
        assert name.strip() in " ".join(str(refused.value).split()) or " ".join(name.split()) in str(refused.value)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value that can be replaced."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


_OTHER = st.one_of(st.none(), st.booleans(), st.integers(-2, 99), st.text(max_size=5), st.just([]), st.just({}))


def edited(package: Path, path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """What the manifest says, with another value in one place."""
    data: dict[str, Any] = json.loads((package / FILE_NAME).read_text())
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return data


@_SETTINGS
@given(_OTHER, st.data())
def test_an_edited_manifest_is_named(whole: Path, value: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(paths_of(json.loads((whole / FILE_NAME).read_text())))))
    with copy_of(whole) as package:
        before = json.loads((package / FILE_NAME).read_text())
        changed = edited(package, path, value)
        if changed == before:
            return
        (package / FILE_NAME).write_text(json.dumps(changed, indent=2) + "\n")
        with pytest.raises(PackageError, match=r"manifest\.json|the package has format"):
            load(package)


@_SETTINGS
@given(_OTHER, st.data())
def test_a_manifest_that_was_edited_and_sealed_again_loads_or_is_refused(
    whole: Path, value: Any, data: st.DataObject
) -> None:
    """Somebody who means it: what is said may be wrong, but nothing falls over."""
    path = data.draw(st.sampled_from(list(paths_of(json.loads((whole / FILE_NAME).read_text())))))
    with copy_of(whole) as package:
        changed = edited(package, path, value)
        if "format" not in changed:
            return
        (package / FILE_NAME).write_text(sealed(changed))
        try:
            load(package).close()
        except Exception as error:
            assert type(error).__name__ in ("PackageError", "HostError"), repr(error)  # noqa: PT017
