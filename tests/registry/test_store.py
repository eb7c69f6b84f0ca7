"""What is published stays as it is; who publishes what is there, or breaks off, breaks nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuild.errors import HostError, PackageError, ValidationError
from modelbuild.manifest import read_manifest
from modelbuild.package_files import verify_files
from modelbuild.registry import Registry, store

Make = Callable[..., Path]


def names(registry: Registry) -> dict[str, list[str]]:
    return {name: list(map(str, registry.versions(name))) for name in registry.names()}


def test_what_is_published_is_found_again(registry: Registry, package: Make) -> None:
    entry = registry.add(package("a"), "minilm", "1.2.0")
    assert (entry.name, entry.version, entry.task) == ("minilm", "1.2.0", "feature-extraction")
    assert entry.opsets == {"model": {"": 18}}
    assert entry.tools == {"torch": "2.13.0"}
    assert registry.entry("minilm@^1") == entry
    folder = registry.resolve("registry:minilm@1.2.0")
    assert (folder / "model.onnx").read_text() == "a"
    verify_files(read_manifest(folder), folder)


def test_versions_follow_each_other_where_none_is_asked_for(registry: Registry, package: Make) -> None:
    assert [registry.add(package(text), "minilm").version for text in "abc"] == ["1.0.0", "1.1.0", "1.2.0"]
    registry.add(package("d"), "minilm", "3.0.0-rc.1")
    assert registry.add(package("e"), "minilm").version == "3.0.0"


def test_the_same_again_changes_nothing_and_another_content_is_refused(registry: Registry, package: Make) -> None:
    first = registry.add(package("a"), "minilm", "1.0.0")
    assert registry.add(package("a"), "minilm", "1.0.0") == first
    with pytest.raises(PackageError, match=r"minilm 1\.0\.0 is there with another content, and versions never change"):
        registry.add(package("b"), "minilm", "1.0.0")
    assert (registry.resolve("minilm") / "model.onnx").read_text() == "a"


def test_what_was_not_proven_is_not_published(registry: Registry, package: Make) -> None:
    with pytest.raises(ValidationError, match=r"the package was not proven.*validation=quick or strict"):
        registry.add(package("a", verified=False), "minilm")
    assert registry.names() == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_text("b"), r"model\.onnx has another content"),
        (lambda folder: (folder / "more").touch(), "more does not belong to it"),
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "not a package"),
    ],
)
def test_what_is_not_what_was_built_is_not_published(
    damage: Callable[[Path], object], said: str, registry: Registry, package: Make
) -> None:
    folder = package("a")
    damage(folder)
    with pytest.raises(PackageError, match=said):
        registry.add(folder, "minilm")
    assert registry.names() == []
    assert not list((registry.root / "objects").glob("*")) if (registry.root / "objects").exists() else True


def test_a_stage_has_the_version_that_was_put_there_last(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0", stage="production")
    registry.add(package("b"), "minilm", "1.1.0")
    assert registry.entry("minilm#production").version == "1.0.0"
    registry.assign("minilm", "1.1.0", "production")
    assert registry.entry("minilm#production").version == "1.1.0"
    assert registry.stages("minilm") == {"production": "1.1.0"}


def test_a_version_that_was_removed_is_gone_and_not_given_again(registry: Registry, package: Make) -> None:
    folder = registry.root / "objects" / registry.add(package("a"), "minilm", "1.0.0").digest
    registry.add(package("b"), "minilm", "1.1.0", stage="production")
    registry.remove("minilm", "1.0.0")
    assert not folder.exists()
    assert names(registry) == {"minilm": ["1.1.0"]}
    with pytest.raises(PackageError, match=r"minilm 1\.0\.0 was removed, and versions never change"):
        registry.add(package("a"), "minilm", "1.0.0")
    with pytest.raises(PackageError, match=r"minilm 1\.1\.0 is in production: put another version there first"):
        registry.remove("minilm", "1.1.0")


def test_files_stay_as_long_as_one_version_has_them(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    registry.add(package("a"), "other", "1.0.0")
    registry.remove("minilm", "1.0.0")
    assert (registry.resolve("other") / "model.onnx").read_text() == "a"
    assert registry.names() == ["other"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("minilmm", r"there is no model 'minilmm'.*did you mean 'minilm'\?"),
        ("minilm@2", r"minilm has no version 2.*it has 1\.1\.0, 1\.0\.0"),
        ("minilm#prod", "no version of minilm is in prod.*(did you mean|choose one of) '?production"),
        ("minilm@", "names no version"),
        ("minilm@1#production", "names versions and a stage"),
        ("../../etc", "is no name"),
        ("Minilm", "is no name"),
        ("", "is no name"),
        ("minilm@one", "is no range of versions"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(reference: str, said: str, registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0", stage="production")
    registry.add(package("b"), "minilm", "1.1.0")
    with pytest.raises(PackageError, match=said):
        registry.entry(reference)


@pytest.mark.parametrize(
    ("name", "version"), [("../x", "1.0.0"), ("a", "1.0"), ("a", "1.0.0+b"), ("a", "v1.0.0"), ("A", None)]
)
def test_a_name_or_version_that_can_be_none_is_refused(
    name: str, version: str | None, registry: Registry, package: Make
) -> None:
    with pytest.raises(PackageError):
        registry.add(package("a"), name, version)
    assert registry.names() == []


def test_what_was_damaged_is_repaired_by_publishing_it_again(registry: Registry, package: Make) -> None:
    entry = registry.add(package("a"), "minilm", "1.0.0")
    model = registry.root / "objects" / entry.digest / "model.onnx"
    model.write_text("b")
    assert registry.add(package("a"), "minilm", "1.0.0") == entry
    assert model.read_text() == "a"


def test_figures_of_many_machines_are_kept_with_a_version(registry: Registry, package: Make) -> None:
    entry = registry.add(package("a"), "minilm", "1.0.0")
    assert registry.performance(entry) == []
    for cores, p50 in (("2", 5.0), ("8", 2.0), ("2", 4.0)):
        registry.measured("minilm", {"host": {"cores": cores}, "golden": {"model": {"p50_ms": p50}}})
    found = {facts["host"]["cores"]: facts["golden"]["model"]["p50_ms"] for facts in registry.performance(entry)}
    assert found == {"2": 4.0, "8": 2.0}
    assert registry.entry("minilm") == entry
    with pytest.raises(PackageError, match="there is no model 'other'"):
        registry.measured("other", {"host": {}})


def test_a_registry_must_be_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(store.ENVIRONMENT, raising=False)
    with pytest.raises(HostError, match="no registry is known: set MODELBUILD_REGISTRY"):
        Registry()
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path))
    assert Registry().root == tmp_path
    assert Registry().names() == []


def test_an_entry_that_is_damaged_is_named(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    path = registry.root / "models" / "minilm" / "1.0.0.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(PackageError, match=r"it is damaged: .*1\.0\.0\.json: restore it"):
        registry.entry("minilm")


def test_a_package_that_is_damaged_is_not_given(registry: Registry, package: Make) -> None:
    entry = registry.add(package("a"), "minilm", "1.0.0")
    manifest = registry.root / "objects" / entry.digest / "manifest.json"
    manifest.write_text(manifest.read_text().replace("tiny", "tony"))
    with pytest.raises(PackageError, match=r"the package of minilm 1\.0\.0 is damaged or gone"):
        registry.resolve("minilm")


def test_another_interface_is_another_major_version(registry: Registry, package: Make) -> None:
    assert registry.add(package("a"), "minilm").version == "1.0.0"
    assert registry.add(package("b"), "minilm").version == "1.1.0"
    assert registry.add(package("c", limits={"batch": 4}), "minilm").version == "2.0.0"
    assert registry.add(package("d", limits={"batch": 4}), "minilm").version == "2.1.0"
    assert registry.add(package("e", task="fill-mask"), "minilm").version == "3.0.0"


def test_what_cannot_be_compared_is_another_interface(registry: Registry, package: Make) -> None:
    first = registry.add(package("a"), "minilm")
    shutil.rmtree(registry.root / "objects" / first.digest)
    assert registry.add(package("b"), "minilm").version == "2.0.0"
    (registry.root / "models/minilm/2.0.0.json").write_text("{")
    assert registry.add(package("c"), "minilm").version == "3.0.0"


def test_a_release_keeps_what_the_release_before_it_promised(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    registry.add(package("b", limits={"batch": 2}), "minilm", "1.1.0-rc.1")
    assert registry.add(package("c", limits={"batch": 2}), "minilm").version == "2.0.0"


def test_a_version_follows_what_came_before_a_release(registry: Registry, package: Make) -> None:
    for content, version in (("a", "1.0.0"), ("b", "1.0.1-rc.1")):
        registry.add(package(content), "minilm", version)
    assert registry.add(package("c"), "minilm").version == "1.1.0"


def test_whoever_may_read_the_folder_may_use_what_is_in_it(registry: Registry, package: Make) -> None:
    mine = package("a")
    for path in mine.iterdir():
        path.chmod(0o600)
    entry = registry.add(mine, "minilm", "1.0.0", stage="production")
    files = [path for path in registry.root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path.name for path in files if path.stat().st_mode & 0o444 != 0o444] == []
    assert (registry.root / "objects" / entry.digest).stat().st_mode & 0o777 == 0o755


def test_what_may_not_be_read_is_not_called_damaged(
    registry: Registry, package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(package("a"), "minilm", "1.0.0")

    def refused(self: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(HostError, match=r"Permission denied: .*1\.0\.0\.json"):
        registry.entry("minilm")


def test_what_is_none_of_ours_is_left_alone(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    (registry.root / "models" / "@eaDir").mkdir()
    (registry.root / "models" / "minilm" / "notes.json").touch()
    assert names(registry) == {"minilm": ["1.0.0"]}
    assert registry.add(package("b"), "minilm").version == "1.1.0"
    registry.remove("minilm", "1.0.0")
    assert (registry.root / "models" / "minilm" / "notes.json").exists()


def test_a_damaged_entry_stands_in_nobody_s_way_and_can_be_removed(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "0.9.0")
    registry.remove("minilm", "0.9.0")
    registry.add(package("a"), "minilm", "1.0.0")
    gone = registry.add(package("b"), "other", "1.0.0")
    path = registry.root / "models" / "minilm" / "1.0.0.json"
    path.write_text(path.read_text()[:50])
    registry.remove("other", "1.0.0")
    assert registry.names() == ["minilm"]
    assert (registry.root / "objects" / gone.digest).exists()  # who knows whose files these are
    assert registry.add(package("c"), "minilm").version == "2.0.0"
    registry.remove("minilm", "1.0.0")
    assert names(registry) == {"minilm": ["2.0.0"]}
    assert [path.name for path in (registry.root / "objects").iterdir()] == [registry.entry("minilm").digest]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "minilm 1.0.0 has format 2, and this modelbuild reads 1: upgrade modelbuild"),
        ({"digest": 5}, "it is damaged: TypeError.*digest is 5"),
        ({"size_bytes": "x"}, "it is damaged: TypeError.*size_bytes is 'x'"),
        ({"performance": []}, "it is damaged: TypeError.*performance is"),
        ({"more": 1}, "it is damaged: TypeError"),
    ],
    ids=str,
)
def test_an_entry_that_makes_no_sense_is_told(
    change: dict[str, object], said: str, registry: Registry, package: Make
) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    path = registry.root / "models" / "minilm" / "1.0.0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PackageError, match=said):
        registry.entry("minilm")


def test_a_stage_can_be_left_empty(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0", stage="production")
    assert registry.unassign("minilm", "production") == "1.0.0"
    assert registry.stages("minilm") == {}
    with pytest.raises(PackageError, match="no version of minilm is in production"):
        registry.unassign("minilm", "production")
    registry.assign("minilm", "1.0.0", "staging")
    (registry.root / "stages/minilm/staging.json").write_text("{")
    with pytest.raises(PackageError, match=r"it is damaged: .*registry assign minilm@VERSION staging writes it anew"):
        registry.entry("minilm#staging")
    assert registry.unassign("minilm", "staging") == ""
    registry.remove("minilm", "1.0.0")
    assert registry.names() == []


def test_what_was_broken_off_goes_when_something_is_removed(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    registry.add(package("b"), "minilm", "1.1.0")
    for left in ("objects/" + "0" * 64, "staging/123.abc"):
        (registry.root / left).mkdir(parents=True)
    registry.remove("minilm", "1.0.0")
    assert [path.name for path in (registry.root / "objects").iterdir()] == [registry.entry("minilm").digest]
    assert list((registry.root / "staging").iterdir()) == []


def test_two_may_repair_at_once(registry: Registry, package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.add(package("a"), "minilm", "1.0.0")
    (registry.root / "objects" / entry.digest / "model.onnx").write_text("b")
    rename = Path.rename

    def taken(self: Path, target: Path) -> Path:
        if target.name == "damaged":  # somebody else moves it aside just before
            shutil.rmtree(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", taken)
    assert registry.add(package("a"), "minilm", "1.0.0") == entry
    assert (registry.resolve("minilm") / "model.onnx").read_text() == "a"


def test_folders_and_files_are_on_the_disk_when_it_returns(
    registry: Registry, package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def seen(handle: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    registry.add(package("a"), "minilm", "1.0.0", stage="production")
    root = registry.root
    wanted = [root, root / "models", root / "models/minilm", root / "objects", root / "stages", root / "stages/minilm"]
    assert {str(path) for path in wanted} <= synced


@pytest.mark.parametrize("name", ["file", "full"])
def test_what_is_no_registry_is_not_taken_for_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(HostError, match=r"a file, where|it is no registry: it has no registry\.json"):
        Registry(tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes"]


def test_a_newer_registry_is_not_touched(registry: Registry, package: Make) -> None:
    registry.add(package("a"), "minilm", "1.0.0")
    (registry.root / "registry.json").write_text('{"format": 2}')
    with pytest.raises(HostError, match=r"the registry has format 2, and this modelbuild reads 1: .*upgrade"):
        Registry(registry.root)


def test_a_home_folder_may_be_written_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Registry("~/models").root == tmp_path / "models"


def test_a_registry_that_cannot_be_written_is_the_host_s(package: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"Not a directory: .*: nothing was published"):
        Registry(tmp_path / "file" / "registry").add(package("a"), "minilm")


def _publish(root: Path, folder: Path, number: int, versions: int) -> None:
    registry = Registry(root)
    for patch in range(versions):
        registry.add(folder, "minilm", f"{number}.0.{patch}")
    registry.add(folder, "shared")


@pytest.mark.slow
def test_sixteen_publishers_lose_nothing(registry: Registry, package: Make) -> None:
    context = multiprocessing.get_context("spawn")
    folders = [package(str(number)) for number in range(16)]
    publishers = [
        context.Process(target=_publish, args=(registry.root, folder, number, 50))
        for number, folder in enumerate(folders)
    ]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    assert [publisher.exitcode for publisher in publishers] == [0] * 16
    assert len(registry.versions("minilm")) == 800
    assert len(registry.versions("shared")) == 16  # each took a version of its own
    for entry in registry.entries():
        assert (registry.root / "objects" / entry.digest / "model.onnx").read_text() in map(str, range(16))


@pytest.mark.slow
def test_publishers_that_are_killed_leave_no_half_version(registry: Registry, tmp_path: Path, package: Make) -> None:
    folder = package("x" * 200_000)
    script = (
        "import itertools, sys; from pathlib import Path; from modelbuild.registry import Registry\n"
        "registry = Registry(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "for number in itertools.count():\n"
        "    registry.add(sys.argv[2], 'minilm', f'{sys.argv[3]}.0.{number}')\n"
        "    (Path(sys.argv[2]) / 'manifest.json').write_text(\n"
        "        (Path(sys.argv[2]) / 'manifest.json').read_text().replace('\"tiny', '\"tiny-', 1))\n"
    )
    rng = random.Random(0)
    for number in range(100):
        mine = tmp_path / f"mine{number}"
        subprocess.run(["cp", "-r", str(folder), str(mine)], check=True)
        with subprocess.Popen(
            [sys.executable, "-c", script, str(registry.root), str(mine), str(number)], stdout=subprocess.PIPE
        ) as publisher:
            assert publisher.stdout is not None
            publisher.stdout.readline()
            time.sleep(rng.random() * 0.02)
            os.kill(publisher.pid, signal.SIGKILL)
    found = list(Registry(registry.root).entries())
    assert found
    for entry in found:
        package_folder = registry.resolve(f"{entry.name}@{entry.version}")
        verify_files(read_manifest(package_folder), package_folder)
    assert registry.add(folder, "minilm", "1000.0.0").version == "1000.0.0"
    assert json.loads((registry.root / "models/minilm/1000.0.0.json").read_text())["version"] == "1000.0.0"
