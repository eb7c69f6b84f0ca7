from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.sources import Located, locate, read_config
from modelbuild.spec import HubSource, InitSource, PackageSource, PathSource
from modelbuild.stage_spec import FolderFiles, StageModel

WEIGHTS = b"weights, which nobody opens here"
WEIGHTS_SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
REVISION = "86b5e0934494bd15c9632b12f734a8a67f723594"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with nothing wrong in it."""
    path = tmp_path / "bert"
    path.mkdir()
    write_config(path, model_type="bert", architectures=["BertModel"])
    (path / "model.safetensors").write_bytes(WEIGHTS)
    (path / "tokenizer.json").write_text("{}")
    return path


def write_config(folder: Path, **values: Any) -> None:
    (folder / "config.json").write_text(json.dumps(values))


def unread(path: Path) -> str:
    pytest.fail(f"{path} was read")


def found(folder: Path, **digests: str) -> Located:
    named = {name.replace("__", "."): digest for name, digest in digests.items()}
    return locate(PathSource(kind="path", path=str(folder), digests=named), sha256_file)


def refused(folder: Path, **digests: str) -> str:
    with pytest.raises(ExportError) as caught:
        found(folder, **digests)
    (line,) = caught.value.lines()
    return line


def test_a_folder_is_known_by_the_content_of_the_files_that_matter(folder: Path) -> None:
    (folder / "README.md").write_text("not a file that matters")
    (folder / "pytorch_model.bin").write_bytes(b"not read where there is safetensors")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    located = found(folder, model__safetensors=WEIGHTS_SHA256)
    assert set(located.files) == {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"}
    assert located.files["model.safetensors"] == WEIGHTS_SHA256
    assert (located.folder, located.config["model_type"]) == (folder, "bert")
    assert str(folder) not in str(located.origin)


def test_a_stage_depends_on_the_weights_or_on_the_files_beside_them_and_always_on_the_config(folder: Path) -> None:
    source, located = PathSource(kind="path", path=str(folder)), found(folder)

    def names(*, weights: bool, sidecars: bool) -> set[str]:
        model = located.subset(source, weights=weights, sidecars=sidecars).source
        assert isinstance(model, FolderFiles)
        return set(model.files)

    assert names(weights=True, sidecars=False) == {"config.json", "model.safetensors"}
    assert names(weights=False, sidecars=True) == {"config.json", "tokenizer.json"}
    assert names(weights=True, sidecars=True) == set(located.files)


def test_an_init_source_has_no_folder_and_is_what_a_stage_depends_on() -> None:
    source = InitSource(kind="init", architecture="BertModel", seed=3)
    located = locate(source, unread)
    assert located.folder is None
    assert located.config == {"architectures": ["BertModel"]}
    assert located.origin == {"kind": "init", "architecture": "BertModel", "seed": "3"}
    assert located.subset(source, weights=True, sidecars=False) == StageModel(source=source)


def test_a_folder_that_is_not_there_is_named_with_one_that_is(folder: Path) -> None:
    assert refused(folder.parent / "brt") == (
        f"error[EXP]: no such folder: {folder.parent}/brt: did you mean '{folder.parent}/bert'?"
    )
    assert refused(folder.parent / "no" / "bert") == (
        f"error[EXP]: no such folder: {folder.parent}/no/bert: check model.source"
    )


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    line = refused(folder / "config.json")
    assert line == (
        f"error[EXP]: a file, where a folder is wanted: {folder}/config.json: give the folder that has config.json"
    )


def test_a_folder_without_config_is_refused_and_an_adapter_is_told_apart(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refused(folder) == f"error[EXP]: no config.json: {folder}: give a Hugging Face model folder"
    (folder / "adapter_config.json").write_text("{}")
    assert refused(folder).endswith("this is a PEFT adapter: merge it into its base model first")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"model_type": "bert", "hidden', "config.json is not valid JSON: Unterminated string"),
        (b"", "config.json is not valid JSON: Expecting value"),
        (b"\xff\xfe{", "config.json is not valid JSON: 'utf-8' codec"),
        (b"{}", 'config.json has no "model_type"'),
        (b'{"model_type": null}', 'config.json has no "model_type"'),
        (b'["model_type"]', 'config.json has no "model_type"'),
    ],
)
def test_a_config_that_is_damaged_or_names_no_model_type_is_refused(folder: Path, text: bytes, words: str) -> None:
    (folder / "config.json").write_bytes(text)
    line = refused(folder)
    assert words in line
    assert f": {folder}/config.json" in line
    with pytest.raises(ExportError):
        read_config(folder)


@pytest.mark.parametrize(
    ("key", "extra"),
    [
        ("auto_map", {"auto_map": {"AutoModel": "modeling.Mine"}}),
        ("auto_map", {"encoder": [{"auto_map": {}}]}),
        ("trust_remote_code", {"text_config": {"trust_remote_code": True}}),
        ("_attn_implementation_internal", {"_attn_implementation_internal": "org/kernel"}),
        ("_attn_implementation_internal", {"text_config": {"_attn_implementation_internal": "org/kernel"}}),
        ("attn_implementation", {"attn_implementation": {"text_config": "org/kernel"}}),
    ],
)
def test_a_config_that_brings_code_of_its_own_is_refused_at_any_depth(
    folder: Path, key: str, extra: dict[str, Any]
) -> None:
    write_config(folder, model_type="bert", **extra)
    line = refused(folder)
    assert line.startswith(f"error[EXP]: config.json sets '{key}', which makes transformers run code from elsewhere")
    write_config(folder, model_type="bert", _attn_implementation_internal="sdpa")
    assert found(folder).config["_attn_implementation_internal"] == "sdpa"


def test_weights_that_are_pickled_or_absent_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refused(folder) == f"error[EXP]: no weights: {folder}: expected model.safetensors"
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    line = refused(folder)
    assert line.startswith("error[EXP]: only pickled weights, which can run code when they are read: ")
    assert line.endswith("convert them to model.safetensors")


def test_a_git_lfs_pointer_is_not_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    line = refused(folder)
    assert line == (f"error[EXP]: a Git LFS pointer, not weights: {folder}/model.safetensors: run 'git lfs pull'")


def shard(folder: Path, index: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)


def test_a_shard_that_the_index_names_and_is_missing_is_named(folder: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    shard(folder, json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    line = refused(folder)
    assert line.startswith(f"error[EXP]: shard {names[1]} is named in model.safetensors.index.json and missing: ")
    (folder / names[1]).write_bytes(b"b")
    assert set(names) < set(found(folder).files)


@pytest.mark.parametrize("index", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": ["b"]}}'])
def test_an_index_of_shards_that_is_damaged_is_refused(folder: Path, index: str) -> None:
    shard(folder, index)
    assert refused(folder).startswith("error[EXP]: model.safetensors.index.json is not an index of shards: ")


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00001.safetensors", "tokenizer.json"])
def test_a_broken_link_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "blobs" / "pruned")
    assert refused(folder) == f"error[EXP]: broken link: {folder}/{name}: fetch the model again"


def test_a_pinned_digest_is_checked(folder: Path) -> None:
    line = refused(folder, model__safetensors="0" * 64)
    assert (
        f"model.safetensors is not the pinned file: expected sha256 {'0' * 64}, found sha256 {WEIGHTS_SHA256}" in line
    )
    assert "vocab.txt is not the pinned file: " in refused(folder, vocab__txt="0" * 64)
    assert "found no such file" in refused(folder, vocab__txt="0" * 64)


@pytest.mark.parametrize("package", ["not_installed_anywhere", "not_installed.anywhere", "sys"])
def test_a_package_that_is_not_installed_is_named_with_how_to_install_it(package: str) -> None:
    with pytest.raises(ExportError) as caught:
        locate(PackageSource(kind="package", package=package), unread)
    (line,) = caught.value.lines()
    assert line.startswith(f"error[EXP]: the Python package '{package}' is not installed: model.source.package: ")


def test_the_files_of_an_installed_package_are_found_inside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, folder.parent / "carrier" / "data")
    (folder.parent / "carrier" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder.parent))
    located = locate(PackageSource(kind="package", package="carrier", folder="data"), sha256_file)
    assert located.folder == folder.parent / "carrier" / "data"
    assert located.origin == {"kind": "package", "package": "carrier", "folder": "data"}


def locate_on_the_hub(cache: dict[str, str]) -> str:
    """What locating a hub repository ends with, in a process of its own: its cache is settled at import."""
    source = HubSource(kind="hub", repository="org/bert", revision=REVISION)
    program = (
        "from modelbuild.errors import ExportError\nfrom modelbuild.sources import locate\n"
        "from modelbuild.digest import sha256_file\nfrom modelbuild.spec import HubSource\n"
        f"try:\n    print(sorted(locate(HubSource(**{source.model_dump()!r}), sha256_file).files))\n"
        "except ExportError as error:\n    print(*error.lines())\n"
    )
    settled = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_", "XDG_"))}
    environment = settled | {"HF_HUB_OFFLINE": "1"} | cache
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_a_hub_model_is_found_offline_in_the_users_cache(folder: Path, tmp_path: Path, variable: str) -> None:
    repository = tmp_path / "hf" / "hub" / "models--org--bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    shutil.copytree(folder, repository / "snapshots" / REVISION)
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_CACHE": str(tmp_path / "hf" / "hub")}
    assert locate_on_the_hub({variable: home[variable]}) == "['config.json', 'model.safetensors', 'tokenizer.json']"


def test_a_hub_model_that_is_not_in_the_cache_is_one_line(tmp_path: Path) -> None:
    assert locate_on_the_hub({"HF_HOME": str(tmp_path)}) == (
        f"error[EXP]: 'org/bert' at {REVISION[:12]} is not in the local cache, and the hub cannot be reached: "
        "model.source: connect once, or choose model=path model.source.path=DIR"
    )
