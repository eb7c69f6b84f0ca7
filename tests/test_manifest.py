from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from modelbuild.errors import PackageError
from modelbuild.manifest import FILE_NAME, FORMAT, FileRecord, GraphRecord, Manifest, read_manifest, write_manifest
from modelbuild.package_files import record_file, record_files, verify_files, verify_package
from modelbuild.signature import Signature, TensorSpec

FILES = {"model.onnx": b"graph", "model.onnx.data": b"01234567", "1_Pooling/config.json": b"01234568"}
SIGNATURE = Signature(
    inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(manifest(record_files(folder)), folder)
    return folder


def manifest(files: dict[str, FileRecord]) -> Manifest:
    return Manifest(
        name="tiny",
        task="text-classification",
        verified=True,
        graphs={
            "model": GraphRecord(
                file="model.onnx",
                signature=SIGNATURE,
                limits={"sequence": 512},
                may_be_empty=("past",),
                sums={"total": ("past", "sequence")},
                opsets={"": 18, "com.microsoft": 1},
                ir_version=10,
                oldest_onnxruntime="1.18",
                hierarchy={"modules": {"": 3}},
            )
        },
        providers=(("cuda", {"use_tf32": False, "device_id": 0}), ("cpu", {})),
        allow_fallback=False,
        session={"execution_mode": "sequential", "config_entries": {}},
        source={"kind": "path", "files": {"config.json": "0" * 64}},
        build={"opset": {"version": 18}},
        tools={"numpy": "2.4.6"},
        validation={"status": "strict", "checks": 5, "passed": True},
        benchmark={"status": "off"},
        files=files,
    )


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / FILE_NAME).read_text())
    change(data)
    (folder / FILE_NAME).write_text(json.dumps(data))


def test_a_manifest_survives_json(folder: Path) -> None:
    assert read_manifest(folder) == manifest(record_files(folder))
    assert json.loads((folder / FILE_NAME).read_text())["format"] == FORMAT


def test_a_manifest_does_not_change(folder: Path) -> None:
    recorded = read_manifest(folder)
    with pytest.raises(FrozenInstanceError):
        recorded.verified = True  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        recorded.files["model.onnx"].sha256 = "0" * 64  # type: ignore[misc]


def test_record_files_records_every_file_but_the_manifest(folder: Path) -> None:
    (folder / "1_Pooling" / FILE_NAME).write_bytes(b"another")
    records = record_files(folder)
    assert list(records) == sorted({*FILES, f"1_Pooling/{FILE_NAME}"})
    for name, content in FILES.items():
        assert records[name] == FileRecord(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        assert records[name] == record_file(folder / name)


def test_a_newer_format_is_refused_and_the_hint_is_to_upgrade(folder: Path) -> None:
    edit(folder, lambda data: data.update(format=FORMAT + 1, something_new=1))
    with pytest.raises(
        PackageError, match=r"format 4, and this modelbuild reads up to 3: /.*/package: upgrade modelbuild"
    ):
        read_manifest(folder)


def test_an_older_format_is_refused_and_the_hint_is_to_build_again(folder: Path) -> None:
    edit(folder, lambda data: data.update(format=1))
    with pytest.raises(PackageError, match=r"format 1, and this modelbuild reads 3: .*build it again"):
        read_manifest(folder)


@pytest.mark.parametrize("name", [None, "model.onnx"])
def test_what_has_no_manifest_is_not_a_package(name: str | None, folder: Path) -> None:
    (folder / FILE_NAME).unlink()
    with pytest.raises(PackageError, match=r"(not a package|cannot be read): .*/package"):
        read_manifest(folder / name if name else folder)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b"{}", b'"text"', b'{"format": "1"}'])
def test_a_file_that_is_no_manifest_is_refused(content: bytes, folder: Path) -> None:
    (folder / FILE_NAME).write_bytes(content)
    with pytest.raises(PackageError, match=r"manifest\.json (is damaged|cannot be read): .*: /.*/package$"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("graphs"),
        lambda data: data.update(graphs={}),
        lambda data: data["graphs"]["model"].pop("opsets"),
        lambda data: data["graphs"]["model"].pop("signature"),
        lambda data: data.update(unknown=1),
        lambda data: data.update(files=[]),
        lambda data: data.update(files={"model.onnx": {"size_bytes": 5}}),
        lambda data: data.update(providers="cpu"),
        lambda data: data["graphs"]["model"].update(signature=[]),
        lambda data: data["graphs"]["model"].update(file="other.onnx"),
        lambda data: data["graphs"]["model"].update(file="../package/model.onnx"),
        lambda data: data["graphs"]["model"].update(file=None),
    ],
)
def test_a_damaged_manifest_is_refused(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    edit(folder, change)
    with pytest.raises(PackageError, match=r"manifest\.json is damaged"):
        read_manifest(folder)


def test_a_pipe_is_no_manifest_and_is_not_waited_for(folder: Path) -> None:
    (folder / FILE_NAME).unlink()
    os.mkfifo(folder / FILE_NAME)
    with pytest.raises(PackageError, match=r"manifest\.json is no file"):
        read_manifest(folder)


def test_verify_files_accepts_what_was_recorded(folder: Path) -> None:
    verify_files(read_manifest(folder), folder)


def flip_a_byte(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"01235567")


def truncate(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"0123456")


def swap_two_of_equal_size(folder: Path) -> None:
    os.replace(folder / "model.onnx.data", folder / "kept")
    os.replace(folder / "1_Pooling/config.json", folder / "model.onnx.data")
    os.replace(folder / "kept", folder / "1_Pooling/config.json")


def add(folder: Path) -> None:
    (folder / "1_Pooling/notes.txt").touch()


def delete(folder: Path) -> None:
    (folder / "1_Pooling/config.json").unlink()


def edit_text(folder: Path) -> None:
    (folder / "1_Pooling/config.json").write_bytes(b"01234568\n")


def link_a_file(folder: Path) -> None:
    os.replace(folder / "model.onnx", folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def link_a_folder(folder: Path) -> None:
    os.replace(folder / "1_Pooling", folder.parent / "elsewhere")
    (folder / "1_Pooling").symlink_to(folder.parent / "elsewhere")


def add_a_folder(folder: Path) -> None:
    (folder / "more" / "inside").mkdir(parents=True)


def add_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize(
    ("damage", "message", "needs_digests"),
    [
        (flip_a_byte, r"model\.onnx\.data has another content", True),
        (swap_two_of_equal_size, r"config\.json has another content.*model\.onnx\.data has another content", True),
        (truncate, r"model\.onnx\.data has 7 bytes instead of 8", False),
        (edit_text, r"config\.json has 9 bytes instead of 8", False),
        (add, r"1_Pooling/notes\.txt does not belong to it", False),
        (delete, r"1_Pooling/config\.json is missing", False),
        (link_a_file, r"model\.onnx is a link, where a package holds only plain files: ", False),
        (link_a_folder, "1_Pooling is a link", False),
        (add_a_pipe, "pipe is no file", False),
    ],
)
def test_verify_files_finds(damage: Callable[[Path], None], message: str, needs_digests: bool, folder: Path) -> None:
    recorded = read_manifest(folder)
    damage(folder)
    with pytest.raises(PackageError, match=message):
        verify_files(recorded, folder)
    if needs_digests:
        verify_files(recorded, folder, digests=False)
    else:
        with pytest.raises(PackageError, match=message):
            verify_files(recorded, folder, digests=False)


def test_verify_files_tells_every_difference_at_once(folder: Path) -> None:
    recorded = read_manifest(folder)
    for damage in (flip_a_byte, add, delete):
        damage(folder)
    message = r"config\.json is missing; .*notes\.txt does not.*; .*data has another.*: /.*/package: build or fetch it"
    with pytest.raises(PackageError, match=message):
        verify_files(recorded, folder)


def test_verify_package_tells_what_is_wrong_with_the_manifest_too(folder: Path) -> None:
    assert verify_package(folder) == read_manifest(folder)
    edited = (folder / FILE_NAME).read_text().replace('"tiny"', '"huge"')
    (folder / FILE_NAME).write_text(edited)
    add(folder)
    link_a_file(folder)
    with pytest.raises(
        PackageError, match=r"its own sha256.*model\.onnx is a link.*notes\.txt does not belong"
    ) as caught:
        verify_package(folder)
    assert "missing" not in str(caught.value)


def test_record_files_refuses_a_link(folder: Path) -> None:
    link_a_file(folder)
    with pytest.raises(PackageError, match="only plain files"):
        record_files(folder)


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(folder: Path) -> None:
    before = (folder / FILE_NAME).read_bytes()
    with pytest.raises(TypeError):
        write_manifest(replace(read_manifest(folder), build={"path": Path()}), folder)
    assert (folder / FILE_NAME).read_bytes() == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
