from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from checkpoints import entry, safe_weights, with_header

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.model_config import read_config
from modelbuild.model_files import wanted_from_hub
from modelbuild.model_spec import HubSource, InitSource, PackageSource, PathSource
from modelbuild.sources import Located, locate
from modelbuild.stage_spec import FolderFiles, StageModel

WEIGHTS = safe_weights()
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


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The folder of a pipeline with nothing wrong in it."""
    path = tmp_path / "pipeline"
    kinds = {
        "text_encoder": ["transformers", "CLIPTextModel"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }  # fmt: skip
    for name in kinds:
        (path / name).mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"} | kinds))
    write_config(path / "text_encoder", model_type="clip_text_model", architectures=["CLIPTextModel"])
    (path / "text_encoder" / "model.safetensors").write_bytes(WEIGHTS)
    for name in ("unet", "vae"):
        write_config(path / name, _class_name=kinds[name][1])
        (path / name / "diffusion_pytorch_model.safetensors").write_bytes(WEIGHTS)
    (path / "scheduler" / "scheduler_config.json").write_text('{"num_train_timesteps": 1000}')
    (path / "tokenizer" / "vocab.json").write_text("{}")
    return path


def write_config(folder: Path, **values: Any) -> None:
    (folder / "config.json").write_text(json.dumps(values))


def unread(path: Path) -> str:
    pytest.fail(f"{path} was read")


def found(folder: Path, *, allow_pickle: bool = False, **digests: str) -> Located:
    named = {name.replace("__", "."): digest for name, digest in digests.items()}
    source = PathSource(kind="path", path=str(folder), digests=named, allow_pickle=allow_pickle)
    return locate(source, sha256_file)


def refused(folder: Path, *, allow_pickle: bool = False, **digests: str) -> str:
    with pytest.raises(ExportError) as caught:
        found(folder, allow_pickle=allow_pickle, **digests)
    (line,) = caught.value.lines()
    assert "\n" not in line
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


def test_a_pipelines_graphs_depend_on_how_many_steps_its_scheduler_knows(pipeline: Path) -> None:
    source = PathSource(kind="path", path=str(pipeline))
    before = found(pipeline).subset(source, weights=True, sidecars=False)
    (pipeline / "scheduler" / "scheduler_config.json").write_text('{"num_train_timesteps": 500}')
    assert found(pipeline).subset(source, weights=True, sidecars=False) != before


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_an_adapter_in_a_part_of_a_pipeline_is_refused(pipeline: Path, part: str) -> None:
    (pipeline / part / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    assert refused(pipeline).endswith(f"a PEFT adapter: {pipeline}/{part}: merge it into its base model first")


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
    assert refused(folder).endswith(f"a PEFT adapter: {folder}: merge it into its base model first")
    write_config(folder, model_type="bert")
    assert "adapter_config.json makes this a PEFT adapter" in refused(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"model_type": "bert", "hidden', "config.json is not valid JSON: Unterminated string"),
        (b"", "config.json is not valid JSON: Expecting value"),
        (b"\xff\xfe{", "config.json is not valid JSON: 'utf-8' codec"),
        (b"{}", 'config.json has no "model_type"'),
        (b'{"model_type": null}', 'config.json has no "model_type"'),
        (b'["model_type"]', 'config.json has no "model_type"'),
        (b'{"model_type": 3}', "model_type is 3, and must be a text"),
        (b"[" * 100_000, "config.json is nested too deeply"),
        (b'{"model_type": "bert", "architectures": "BertModel"}', "architectures is 'BertModel', and must be a list"),
        (b'{"model_type": "bert", "architectures": [3]}', "architectures is [3], and must be a list of class names"),
        (b'{"model_type": "bert", "architectures": {"BertModel": 1}}', "must be a list of class names"),
        (b'{"model_type": "bert", "torch_dtype": "floot16"}', 'unknown torch_dtype "floot16": '),
        (b'{"model_type": "bert", "dtype": 16}', "unknown dtype 16: "),
        (b'{"model_type": "bert", "id2label": {"a": "good"}}', 'id2label must map integers to labels, got "a"'),
        (b'{"model_type": "bert", "id2label": ["good"]}', 'id2label must map integers to labels, got ["good"]'),
    ],
)
def test_a_config_that_is_damaged_or_names_no_model_type_is_refused(folder: Path, text: bytes, words: str) -> None:
    (folder / "config.json").write_bytes(text)
    line = refused(folder)
    assert words in line
    assert f": {folder}/config.json" in line
    with pytest.raises(ExportError):
        read_config(folder)


def test_a_type_of_numbers_that_is_misspelled_is_corrected(folder: Path) -> None:
    write_config(folder, model_type="bert", torch_dtype="floot16")
    assert refused(folder).endswith("did you mean 'float16'?")
    write_config(folder, model_type="bert", torch_dtype="float16")
    assert found(folder).config["torch_dtype"] == "float16"


@pytest.mark.parametrize(
    ("key", "extra"),
    [
        ("auto_map", {"auto_map": {"AutoModel": "modeling.Mine"}}),
        ("auto_map", {"encoder": [{"auto_map": {}}]}),
        ("trust_remote_code", {"text_config": {"trust_remote_code": True}}),
        ("_attn_implementation_internal", {"_attn_implementation_internal": "org/kernel"}),
        (
            "_attn_implementation_internal",
            {"text_config": {"_attn_implementation_internal": "org/kernel@main:forward"}},
        ),
        ("attn_implementation", {"attn_implementation": {"text_config": "org/kernel"}}),
        ("attn_implementation", {"attn_implementation": {"": "org/kernel"}}),
        ("_attn_implementation", {"_attn_implementation": "paged|org/kernel"}),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "sentence_bert_config.json"])
def test_settings_that_bring_code_of_their_own_are_refused_at_any_depth(
    folder: Path, key: str, extra: dict[str, Any], name: str
) -> None:
    (folder / name).write_text(json.dumps({"model_type": "bert", **extra}))
    assert refused(folder) == (
        f"error[EXP]: {name} sets '{key}', which makes transformers run code from elsewhere: {folder}/{name}: "
        "refused; remove the key if the model works without it"
    )


def test_an_attention_that_transformers_has_itself_is_no_code_from_elsewhere(folder: Path) -> None:
    write_config(folder, model_type="bert", _attn_implementation_internal="sdpa")
    assert found(folder).config["_attn_implementation_internal"] == "sdpa"


def test_settings_of_the_tokenizer_that_are_damaged_are_refused(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 5')
    assert refused(folder).startswith("error[EXP]: tokenizer_config.json is not valid JSON: Expecting")


def test_a_vocabulary_in_a_file_that_only_settings_name_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_file": "/elsewhere/tokenizer.json"}))
    assert refused(folder) == (
        "error[EXP]: tokenizer_config.json sets 'tokenizer_file', which takes the vocabulary from another file: "
        f"{path}: remove the key: what is beside it is found without"
    )
    path.write_text(json.dumps({"vocab_file": "/elsewhere", "special_tokens_map_file": "/x", "tokenizer_file": None}))
    assert "tokenizer_config.json" in found(folder).files
    (folder / "tokenizer.json").unlink()
    assert "sets 'vocab_file'" in refused(folder)
    path.write_text("[]")
    assert "tokenizer_config.json is not a JSON object" in refused(folder)


@pytest.mark.parametrize(
    ("extra", "method"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
        ({"quantization_config": {"load_in_4bit": True}}, "of an unknown method"),
        ({"quantization_config": []}, "of an unknown method"),
        ({"a": {"b": [{"quantization_config": {"quant_method": "gptq"}}]}}, "gptq"),
    ],
)
def test_quantized_weights_are_refused_with_their_method(folder: Path, extra: dict[str, Any], method: str) -> None:
    write_config(folder, model_type="bert", **extra)
    assert f"error[EXP]: quantized weights ({method}) cannot be exported: {folder}/config.json: " in refused(folder)
    write_config(folder, model_type="bert", quantization_config=None)
    assert found(folder).files


def test_weights_in_a_file_that_only_config_names_are_refused(folder: Path) -> None:
    write_config(folder, model_type="bert", transformers_weights="../other.safetensors")
    assert "config.json sets 'transformers_weights', which takes the weights from another file" in refused(folder)


def test_weights_in_a_file_that_the_config_of_a_part_names_are_refused_under_its_name(pipeline: Path) -> None:
    path = pipeline / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformers_weights": "../other.safetensors"}))
    assert "model_index.json sets 'transformers_weights'" in refused(pipeline)


def test_weights_that_are_absent_are_missed_and_those_of_other_libraries_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refused(folder) == f"error[EXP]: no weights: {folder}: expected model.safetensors"
    for name in ("tf_model.h5", "model.fp16.safetensors"):
        (folder / name).write_bytes(b"\x00")
    assert refused(folder).endswith(": expected model.safetensors, found model.fp16.safetensors, tf_model.h5")


def test_pickled_weights_are_refused_unless_they_are_asked_for_and_then_pinned_like_others(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    assert refused(folder) == (
        "error[EXP]: only pickled weights, which can run code when they are read: "
        f"{folder}/pytorch_model.bin: convert them to model.safetensors, or set model.source.allow_pickle=true"
    )
    located = found(folder, allow_pickle=True)
    assert set(located.files) == {"config.json", "pytorch_model.bin", "tokenizer.json"}
    model = located.subset(PathSource(kind="path", path=str(folder)), weights=True, sidecars=False).source
    assert isinstance(model, FolderFiles)
    assert set(model.files) == {"config.json", "pytorch_model.bin"}
    assert "is not the pinned file" in refused(folder, allow_pickle=True, pytorch_model__bin="0" * 64)


def test_safetensors_go_before_pickles_even_where_those_are_allowed(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    assert "pytorch_model.bin" not in found(folder, allow_pickle=True).files
    assert "found it is not read" in refused(folder, pytorch_model__bin="0" * 64)


def test_shards_that_are_pickled_are_listed_and_missed_like_others(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "only pickled weights" in refused(folder)
    assert "shard pytorch_model-00001-of-00001.bin is named in" in refused(folder, allow_pickle=True)
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(b"\x80\x02")
    assert {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"} < set(
        found(folder, allow_pickle=True).files
    )


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_git_lfs_pointer_and_an_empty_file_are_not_weights(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    line = refused(folder, allow_pickle=True)
    assert line == (f"error[EXP]: a Git LFS pointer, not weights: {folder}/{name}: run 'git lfs pull'")
    (folder / name).write_bytes(b"")
    line = refused(folder, allow_pickle=True)
    assert line == f"error[EXP]: {name} is empty: {folder}/{name}: fetch the model again"


def test_truncated_weights_are_told_by_their_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(WEIGHTS[:-3])
    assert refused(folder) == (
        f"error[EXP]: model.safetensors is truncated (the header promises {len(WEIGHTS)} bytes, the file has "
        f"{len(WEIGHTS) - 3} bytes): {path}: fetch the model again"
    )
    path.write_bytes(WEIGHTS[:20])
    assert "model.safetensors is truncated (the header promises " in refused(folder)
    path.write_bytes(with_header({"a": entry(0, 438_000_000)}))
    os.truncate(path, 120_000_000)
    assert "is truncated (the header promises 438.0 MB, the file has 120.0 MB)" in refused(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"abc", "its first 8 bytes are not the length of a header"),
        (b"garbage, and more of it", "its first 8 bytes are not the length of a header"),
        (with_header("{'a': 1}"), "its header cannot be read: Expecting property name"),
        (with_header("[1]"), "its header cannot be read: "),
        (with_header({"a": 3}), "its header cannot be read: "),
        (with_header({"a": {"shape": [1]}}), "its header lacks 'data_offsets'"),
        (with_header({"a": {"data_offsets": [0, 4]}}, b"1234"), "its header lacks 'shape'"),
        (with_header({"a": entry(0, 4, shape=[2])}, b"1234"), "or is damaged: "),
        (with_header({"a": entry(0, 4, dtype="F33")}, b"1234"), "or is damaged: "),
        (with_header({"a": entry(0, 4)}, b"12345"), "or is damaged: "),
        (with_header({"a": entry(4, 8)}, b"12345678"), "or is damaged: "),
    ],
)
def test_weights_whose_header_is_damaged_are_refused(folder: Path, content: bytes, words: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    line = refused(folder)
    assert line.startswith("error[EXP]: model.safetensors is not a safetensors file, or is damaged: ")
    assert words in line


@pytest.mark.parametrize(("metadata", "library"), [({"format": "tf"}, "tf"), ({"by": "me"}, "an unnamed library")])
def test_weights_that_another_library_wrote_are_refused(folder: Path, metadata: dict[str, str], library: str) -> None:
    (folder / "model.safetensors").write_bytes(safe_weights(**metadata))
    assert f"model.safetensors was written by {library}, not by PyTorch" in refused(folder)
    (folder / "model.safetensors").write_bytes(with_header({"a": entry(0, 4)}, b"1234"))
    assert found(folder).files


SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]


def shard(folder: Path, index: str) -> None:
    (folder / "model.safetensors").rename(folder / SHARDS[0])
    (folder / "model.safetensors.index.json").write_text(index)


def test_a_shard_that_the_index_names_and_is_missing_is_named(folder: Path) -> None:
    shard(folder, json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}))
    line = refused(folder)
    assert line.startswith(f"error[EXP]: shard {SHARDS[1]} is named in model.safetensors.index.json and missing: ")
    (folder / SHARDS[1]).write_bytes(safe_weights("b"))
    (folder / "model-00003-of-00003.safetensors").write_bytes(b"of another time, and not read")
    assert set(found(folder).files) == {*SHARDS, "model.safetensors.index.json", "config.json", "tokenizer.json"}


def test_tensors_that_are_not_in_the_shard_where_the_index_has_them_are_named(folder: Path) -> None:
    shard(folder, json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[0]}}))
    assert f"tensor b and 1 more not in {SHARDS[0]}, where model.safetensors.index.json has it" in refused(folder)


def test_a_shard_that_is_truncated_is_named(folder: Path) -> None:
    shard(folder, json.dumps({"weight_map": {"a": SHARDS[0]}}))
    (folder / SHARDS[0]).write_bytes(WEIGHTS[:-1])
    assert f"{SHARDS[0]} is truncated" in refused(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/model.safetensors", "model.bin", "", "tokenizer.json"])
def test_an_index_that_names_a_file_elsewhere_or_of_another_kind_is_refused(folder: Path, name: str) -> None:
    shard(folder, json.dumps({"weight_map": {"a": name}}))
    assert f"names '{name}', which is no .safetensors file beside it: {folder}/model.safetensors.index" in refused(
        folder
    )


@pytest.mark.parametrize(
    "index", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": ["b"]}}']
)
def test_an_index_of_shards_that_is_damaged_is_refused(folder: Path, index: str) -> None:
    shard(folder, index)
    assert refused(folder).startswith("error[EXP]: model.safetensors.index.json is not an index of shards: ")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", SHARDS[0]])
def test_a_broken_link_is_named_with_where_it_leads(folder: Path, name: str) -> None:
    if name == SHARDS[0]:
        shard(folder, json.dumps({"weight_map": {"a": name}}))
    (folder / name).unlink()
    (folder / name).symlink_to("blobs/pruned")
    assert refused(folder) == f"error[EXP]: a broken link to blobs/pruned: {folder}/{name}: fetch the model again"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refused(folder) == f"error[EXP]: not a file: {folder}/{name}: fetch the model again"
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refused(folder) == f"error[EXP]: not a file: {folder}/{name}: fetch the model again"


@pytest.mark.parametrize("name", ["a@b", "a b", "größe", "a\nb", "$(x)", "'"])
def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    assert found(folder.rename(folder.parent / name)).files


def test_no_library_of_tensors_is_loaded_to_look_at_a_source(folder: Path) -> None:
    program = (
        "import sys\nfrom modelbuild.digest import sha256_file\nfrom modelbuild.sources import locate\n"
        "from modelbuild.model_spec import PathSource\n"
        f"locate(PathSource(kind='path', path={str(folder)!r}), sha256_file)\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_nothing_of_a_package_is_run_to_find_a_folder_inside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, folder.parent / "outer_carrier" / "inner" / "data")
    (folder.parent / "outer_carrier" / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(str(folder.parent))
    located = locate(PackageSource(kind="package", package="outer_carrier.inner", folder="data"), sha256_file)
    assert located.folder == folder.parent / "outer_carrier" / "inner" / "data"


def locate_on_the_hub(environment: dict[str, str], *, allow_pickle: bool = False) -> str:
    """What locating a hub repository ends with, in a process of its own: its cache is settled at import."""
    source = HubSource(kind="hub", repository="org/bert", revision=REVISION, allow_pickle=allow_pickle)
    program = (
        "from modelbuild.errors import ExportError\nfrom modelbuild.sources import locate\n"
        "from modelbuild.digest import sha256_file\nfrom modelbuild.model_spec import HubSource\n"
        f"try:\n    print(sorted(locate(HubSource(**{source.model_dump()!r}), sha256_file).files))\n"
        "except ExportError as error:\n    print(*error.lines())\n"
    )
    settled = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_", "XDG_"))}
    own = settled | {"HF_HUB_OFFLINE": "1"} | environment
    done = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_a_hub_model_is_found_offline_in_the_users_cache(folder: Path, tmp_path: Path, variable: str) -> None:
    repository = tmp_path / "hf" / "hub" / "models--org--bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    shutil.copytree(folder, repository / "snapshots" / REVISION)
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_CACHE": str(tmp_path / "hf" / "hub")}
    assert locate_on_the_hub({variable: home[variable]}) == "['config.json', 'model.safetensors', 'tokenizer.json']"


@pytest.mark.slow
def test_a_hub_pipeline_is_found_offline_in_the_users_cache_if_it_is_whole(pipeline: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--org--bert" / "snapshots" / REVISION
    shutil.copytree(pipeline, snapshot)
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    files = sorted(path.relative_to(pipeline).as_posix() for path in pipeline.rglob("*") if path.is_file())
    assert locate_on_the_hub(cache) == str(files)
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert f"no weights: {snapshot}/vae: expected diffusion_pytorch_model" in locate_on_the_hub(cache)


@pytest.mark.parametrize("pickled", [False, True])
def test_what_is_fetched_from_the_hub_is_what_is_read(pickled: bool) -> None:
    wanted = wanted_from_hub(pickled=pickled)
    suffix = "bin" if pickled else "safetensors"
    name, other = ("pytorch_model", "model") if pickled else ("model", "pytorch_model")
    read = [
        "config.json", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        "tokenizer/vocab.json", f"{name}.{suffix}", f"{name}-00001-of-00002.{suffix}", f"{name}.{suffix}.index.json",
        f"text_encoder/{name}.{suffix}", f"unet/diffusion_pytorch_model-00001-of-00002.{suffix}",
        f"vae/diffusion_pytorch_model.{suffix}",
    ]  # fmt: skip
    unread = ["model.fp16.safetensors", f"{other}.{'safetensors' if pickled else 'bin'}", "safety_checker/config.json"]
    assert [name for name in read if not any(fnmatch(name, glob) for glob in wanted)] == []
    assert [name for name in unread if any(fnmatch(name, glob) for glob in wanted)] == []


def test_a_hub_model_that_is_not_in_the_cache_is_one_line(tmp_path: Path) -> None:
    assert locate_on_the_hub({"HF_HOME": str(tmp_path)}) == (
        f"error[EXP]: 'org/bert' at {REVISION[:12]} is not in the local cache, and the hub cannot be reached: "
        "model.source: connect once, or choose model=path model.source.path=DIR"
    )


@pytest.mark.slow
def test_a_cached_hub_model_without_a_tokenizer_is_asked_for_again_and_taken_as_it_is_if_there_is_no_answer(
    folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--org--bert" / "snapshots" / REVISION
    shutil.copytree(folder, snapshot)
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    with answering(404, "RepoNotFound") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        online = cache | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        assert locate_on_the_hub(online) == "['config.json', 'model.safetensors', 'tokenizer.json']"
        assert server.asked == []
        (snapshot / "tokenizer.json").unlink()
        assert locate_on_the_hub(online) == "['config.json', 'model.safetensors']"
        assert server.asked
        server.shutdown()
    assert locate_on_the_hub(cache) == "['config.json', 'model.safetensors']"


@pytest.mark.slow
def test_a_hub_model_with_pickled_weights_alone_is_taken_only_where_they_are_allowed(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    shutil.copytree(folder, tmp_path / "hub" / "models--org--bert" / "snapshots" / REVISION)
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    assert "only pickled weights" in locate_on_the_hub(cache)
    assert "pytorch_model.bin" in locate_on_the_hub(cache, allow_pickle=True)


class Hub(HTTPServer):
    """A hub, and the paths that it was asked for."""

    asked: list[str]


def answering(status: int, code: str) -> Hub:
    """A hub that answers every question with that status, for a while."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(self.path)
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    hub = Hub(("127.0.0.1", 0), Refusing)
    hub.asked = []
    return hub


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "GatedRepo", "the hub gives no access to 'org/bert' (HTTP 401): model.source.repository: check its name"),
        (
            404,
            "RepoNotFound",
            "the hub gives no access to 'org/bert' (HTTP 404): model.source.repository: check its name",
        ),
        (404, "RevisionNotFound", "'org/bert' cannot be fetched: 404"),
        (418, "", "is not in the local cache, and the hub cannot be reached"),
    ],
)
def test_a_hub_that_refuses_is_one_line(tmp_path: Path, status: int, code: str, words: str) -> None:
    with answering(status, code) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        line = locate_on_the_hub({"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint})
        server.shutdown()
    assert words in line
    assert len(line.splitlines()) == 1
