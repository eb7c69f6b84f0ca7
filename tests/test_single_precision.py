"""Checkpoints in half precision, converted on disk: bit by bit what PyTorch makes of them in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.mapped_weights import release
from modelbuild.model_files import SAFE_WEIGHTS
from modelbuild.reference import load_original, load_reference
from modelbuild.single_precision import convert, in_single_precision
from modelbuild.stage_spec import FolderFiles, StageModel
from modelbuild.tasks import TASKS

TASK = TASKS["fill-mask"]
WEIGHTS = SAFE_WEIGHTS[0]
CONFIG = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 16,
}  # fmt: skip


def every_number(dtype: torch.dtype) -> torch.Tensor:
    """All numbers of a type of 16 bits, the infinite ones too."""
    numbers = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    return numbers[~numbers.isnan()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_in_half_precision_is_the_same_number_after(dtype: torch.dtype, tmp_path: Path) -> None:
    numbers = every_number(dtype)
    save_file({"x": numbers}, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", tmp_path / "single.safetensors")
    found = load_file(tmp_path / "single.safetensors")["x"]
    assert found.dtype == torch.float32
    assert torch.equal(found.view(torch.int32), numbers.float().view(torch.int32))


def test_other_types_shapes_and_what_the_file_says_of_itself_are_kept(tmp_path: Path) -> None:
    tensors = {
        "half": torch.ones(3, 2, dtype=torch.float16),
        "ids": torch.arange(5),
        "single": torch.rand(2, 3),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "nothing": torch.empty(0, 4, dtype=torch.float16),
        "double": torch.rand(2, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
    }
    save_file(tensors, tmp_path / "half.safetensors", {"format": "pt", "by": "me"})
    convert(tmp_path / "half.safetensors", tmp_path / "single.safetensors")
    found = load_file(tmp_path / "single.safetensors")
    halves = (torch.float16, torch.bfloat16)
    wanted = {name: tensor.float() if tensor.dtype in halves else tensor for name, tensor in tensors.items()}
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: t.dtype for n, t in wanted.items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    with safe_open(tmp_path / "single.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt", "by": "me"}


def test_a_tensor_longer_than_what_is_read_at_once_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelbuild.single_precision._CHUNK_BYTES", 6)
    numbers = torch.rand(7, dtype=torch.float32).half()
    save_file({"x": numbers}, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", tmp_path / "single.safetensors")
    assert torch.equal(load_file(tmp_path / "single.safetensors")["x"], numbers.float())


def test_a_folder_without_half_precision_is_taken_as_it_is(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "model.safetensors")
    with in_single_precision(tmp_path, ["model.safetensors", "config.json"], tmp_path) as taken:
        assert taken == tmp_path


def saved(folder: Path, dtype: torch.dtype) -> StageModel:
    """A checkpoint in three shards whose embeddings and decoder are one tensor."""
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**CONFIG)).to(dtype)
    model.save_pretrained(folder, max_shard_size="15KB")
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    assert len(files) > 3
    return StageModel(source=FolderFiles(kind="folder", files=files))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shards_in_half_precision_are_loaded_as_in_memory_and_mapped_from_disk(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    folder, scratch = tmp_path / "model", tmp_path / "scratch"
    scratch.mkdir()
    declared = saved(folder, dtype)
    before = release()
    module = load_original(declared, TASK, folder, scratch=scratch).module
    assert not list(scratch.iterdir())
    parameters = dict(module.named_parameters())
    assert release() - before >= sum(tensor.nbytes for tensor in parameters.values())
    wanted = dict(load_reference(declared, TASK, folder).named_parameters())
    assert {tensor.dtype for tensor in parameters.values()} == {torch.float32}
    assert parameters.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in parameters.items())
    assert module.cls.predictions.decoder.weight is module.bert.embeddings.word_embeddings.weight


def test_buffers_that_are_in_no_checkpoint_are_computed_in_single_precision(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    index = json.loads((folder / "config.json").read_text())
    assert index["dtype"] == "bfloat16"
    declared = StageModel(
        source=FolderFiles(kind="folder", files={path.name: sha256_file(path) for path in folder.iterdir()})
    )
    module = load_original(declared, TASKS["text-generation"], folder, scratch=tmp_path).module
    (frequencies,) = (buffer for name, buffer in module.named_buffers() if name.endswith("inv_freq"))
    assert torch.equal(frequencies, 1 / 10000 ** (torch.arange(0, 8, 2).float() / 8))


def half(folder: Path) -> dict[str, torch.Tensor]:
    """A small checkpoint in half precision in `folder`, and its tensors."""
    transformers.BertForMaskedLM(transformers.BertConfig(**CONFIG)).half().save_pretrained(folder)
    return load_file(folder / WEIGHTS)


def without_a_layer(folder: Path) -> None:
    save_file({n: t for n, t in half(folder).items() if ".layer.1." not in n}, folder / WEIGHTS, {"format": "pt"})


def with_no_number(folder: Path) -> None:
    tensors = half(folder)
    tensors["bert.encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def with_an_infinite_weight(folder: Path) -> None:
    tensors = half(folder)
    tensors["bert.encoder.layer.0.output.dense.weight"][0, 0] = 70000.0
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def of_another_shape(folder: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.bias"
    save_file(half(folder) | {name: torch.zeros(5, dtype=torch.float16)}, folder / WEIGHTS, {"format": "pt"})


def cut_short(folder: Path) -> None:
    half(folder)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-101])


def cut_in_its_header(folder: Path) -> None:
    half(folder)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:100])


def with_a_header_that_lies(folder: Path) -> None:
    half(folder)
    (folder / WEIGHTS).write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_a_layer, "it has no weights for bert.encoder.layer.1."),
        (with_no_number, "dense.weight contains"),
        (with_an_infinite_weight, "dense.weight contains"),
        (of_another_shape, "5"),
        (cut_short, "transformers cannot load it"),
        (cut_in_its_header, "transformers cannot load it"),
        (with_a_header_that_lies, "transformers cannot load it"),
    ],
)
def test_a_damaged_checkpoint_in_half_precision_is_one_line_about_the_folder_that_was_given(
    damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    folder, scratch = tmp_path / "model", tmp_path / "scratch"
    scratch.mkdir()
    damage(folder)
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    declared = StageModel(source=FolderFiles(kind="folder", files=files))
    with pytest.raises(ExportError) as caught:
        load_original(declared, TASK, folder, scratch=scratch)
    (line,) = caught.value.lines()
    assert words in line
    assert str(folder) in line
    assert str(scratch) not in line
    assert not list(scratch.iterdir())
