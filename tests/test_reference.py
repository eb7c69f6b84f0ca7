from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from tiny_models import only_component

from modelbuild.architectures import architecture_for, reference_config
from modelbuild.checkpoint import Fit, require_finite
from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.model_spec import InitSource
from modelbuild.reference import load_again, load_original, load_reference, verify_source
from modelbuild.stage_spec import FolderFiles, StageModel
from modelbuild.tasks import TASKS, Task

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}
FEATURES, CLASSES, MASKED = (TASKS[name] for name in ("feature-extraction", "text-classification", "fill-mask"))
INPUTS = {"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.ones((1, 3), dtype=np.int64)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BertModel with seeded weights, as transformers saves it. Not to be changed."""
    folder = tmp_path_factory.mktemp("bert")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model, to be changed."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def declared(folder: Path) -> StageModel:
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    return StageModel(source=FolderFiles(kind="folder", files=files))


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_is_loaded_with_its_own_weights_in_eval_mode_and_fp32(saved: Path) -> None:
    model = load_reference(declared(saved), FEATURES, saved)
    original = transformers.BertModel.from_pretrained(saved)
    assert same(weights(model), weights(original))
    assert not model.training
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def test_weights_in_half_precision_become_fp32(folder: Path) -> None:
    transformers.BertModel.from_pretrained(folder).half().save_pretrained(folder)
    model = load_reference(declared(folder), FEATURES, folder)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def refused(folder: Path, task: Task = FEATURES) -> str:
    with pytest.raises(ExportError) as caught:
        load_reference(declared(folder), task, folder)
    (line,) = caught.value.lines()
    assert "\n" not in line
    return line


def test_a_head_that_the_checkpoint_lacks_is_named_with_what_the_checkpoint_is(saved: Path) -> None:
    assert refused(saved, CLASSES) == (
        "error[EXP]: the checkpoint is a BertModel and not a BertForSequenceClassification: it has no weights for "
        f"classifier.weight, classifier.bias: {saved}: choose task=feature-extraction, or a checkpoint that was "
        "trained for text-classification"
    )


def test_a_head_that_the_checkpoint_lacks_is_named_when_it_does_not_say_what_it_is(folder: Path) -> None:
    reconfigure(folder, architectures=None)
    assert "not a whole BertForSequenceClassification: it has no weights for classifier.weight" in refused(
        folder, CLASSES
    )


def test_layers_that_the_checkpoint_lacks_are_counted_and_the_first_weights_named(folder: Path) -> None:
    reconfigure(folder, num_hidden_layers=3)
    line = refused(folder)
    assert "not a whole BertModel: it has no weights for encoder.layer.1.attention.self.query.weight, " in line
    assert " and 28 more (config.json says 3 layers in encoder.layer, the checkpoint has 1): " in line
    assert line.endswith("correct config.json, or fetch the model again")


def test_a_checkpoint_of_something_else_altogether_is_refused(folder: Path) -> None:
    save_file({"lstm.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    assert re.search(r"not a whole BertModel: it has none of the \d+ that it needs: ", refused(folder))


def test_a_pooler_that_the_checkpoint_lacks_is_no_loss_for_features(folder: Path) -> None:
    transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    model = load_reference(declared(folder), FEATURES, folder)
    assert np.isfinite(only_component(model, FEATURES).run(INPUTS)["last_hidden_state"]).all()


def test_tied_weights_that_a_checkpoint_holds_once_are_not_missing(tmp_path: Path) -> None:
    original = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    original.save_pretrained(tmp_path)
    assert same(weights(load_reference(declared(tmp_path), MASKED, tmp_path)), weights(original))


def test_weights_of_another_shape_are_refused_with_both_shapes(folder: Path) -> None:
    reconfigure(folder, vocab_size=31)
    assert refused(folder) == (
        "error[EXP]: the checkpoint does not fit the BertModel that config.json describes: "
        f"embeddings.word_embeddings.weight has shape (30, 8) and not (31, 8): {folder}: correct the sizes in "
        "config.json (num_labels and id2label for a head), or choose another checkpoint"
    )


def test_labels_that_the_head_has_not_are_refused_with_both_shapes(tmp_path: Path) -> None:
    transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, num_labels=5)).save_pretrained(tmp_path)
    labels = {str(index): str(index) for index in range(3)}
    reconfigure(tmp_path, id2label=labels, label2id={name: int(name) for name in labels})
    assert "classifier.weight has shape (5, 8) and not (3, 8), classifier.bias has" in refused(tmp_path, CLASSES)


def test_shapes_are_found_under_the_names_of_a_checkpoint_for_another_task(tmp_path: Path) -> None:
    transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path)
    reconfigure(tmp_path, vocab_size=31)
    assert "embeddings.word_embeddings.weight has shape (30, 8) and not (31, 8)" in refused(tmp_path)


def test_tensors_that_the_model_has_no_place_for_are_told_and_no_failure(tmp_path: Path) -> None:
    transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["bert.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    keys = load_original(declared(tmp_path), FEATURES, tmp_path).unexpected_keys
    assert keys == tuple(sorted(name for name in tensors if name.startswith("cls.")))
    assert keys
    assert not load_original(declared(tmp_path), MASKED, tmp_path).unexpected_keys


QUERY = "encoder.layer.0.attention.self.query.weight"


def spoil(folder: Path, dtype: torch.dtype, **values: float) -> None:
    """Set the first numbers of the query's weights, and save all as `dtype`."""
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    for index, value in enumerate(values.values()):
        tensors[QUERY].view(-1)[index] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_counted_and_named(folder: Path, dtype: torch.dtype) -> None:
    spoil(folder, dtype, a=math.nan, b=math.nan, c=math.nan)
    assert refused(folder) == (
        f"error[EXP]: tensor {QUERY} contains 3 NaN values: {folder}: the checkpoint is damaged: "
        "fetch it or train it again"
    )
    spoil(folder, dtype, a=math.nan, b=-math.inf, c=0)
    assert f"tensor {QUERY} contains 1 NaN and 1 infinite values" in refused(folder)


def test_weights_that_are_infinite_in_fp32_alone_are_refused(folder: Path) -> None:
    spoil(folder, torch.float64, a=1e300)
    assert f"tensor {QUERY} contains 1 infinite value: " in refused(folder)


def test_weights_whose_sum_alone_is_infinite_are_numbers(folder: Path) -> None:
    spoil(folder, torch.float32, a=3e38, b=3e38)
    assert not load_reference(declared(folder), FEATURES, folder).training


def test_every_tensor_that_is_no_number_is_counted(folder: Path) -> None:
    tensors = {
        name: torch.full_like(tensor, math.nan) for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert f"(and {len(tensors) - 1} other tensors do)" in refused(folder)


class Masked(torch.nn.Module):  # type: ignore[misc]
    """A module that saves a mask of -inf with its weights."""

    base_model_prefix = "model"

    def __init__(self, value: float) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.register_buffer("mask", torch.full((2, 2), value))


def test_a_mask_may_be_infinite_and_not_nan() -> None:
    require_finite(Fit(module=Masked(-math.inf), declared=None, task=FEATURES, where="here"))
    with pytest.raises(ExportError, match="tensor mask contains 4 NaN values: here"):
        require_finite(Fit(module=Masked(math.nan), declared=None, task=FEATURES, where="here"))


def pickled(folder: Path, content: object) -> Path:
    """The model folder with `content` in a pickle in place of its weights."""
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    return folder


def test_pickled_weights_are_loaded_where_they_were_declared(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    model = load_reference(declared(pickled(folder, tensors)), FEATURES, folder)
    assert same(weights(model), tensors)
    assert same(weights(load_again(declared(folder), FEATURES, folder)), tensors)
    reconfigure(folder, vocab_size=31)
    assert "has shape (30, 8) and not (31, 8)" in refused(folder)


def test_pickled_shards_are_loaded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = list(tensors)
    (folder / "model.safetensors").unlink()
    placed = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(names)}
    for shard in set(placed.values()):
        torch.save({name: tensors[name] for name in names if placed[name] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    assert same(weights(load_reference(declared(folder), FEATURES, folder)), tensors)


def test_a_pickle_that_was_not_declared_is_not_read(folder: Path) -> None:
    model = StageModel(source=FolderFiles(kind="folder", files={"config.json": sha256_file(folder / "config.json")}))
    pickled(folder, load_file(folder / "model.safetensors"))
    with pytest.raises(ExportError, match=r"no file named model\.safetensors"):
        load_reference(model, FEATURES, folder)


class Evil:
    """What, when it is unpickled, creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    folder: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trap = folder / "trap"
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors | {"evil": Evil(trap)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert refused(folder) == (
        "error[EXP]: the pickled weights hold more than tensors: reading them would call posix.system: "
        f"{folder}: refused; get the weights as model.safetensors from someone you trust"
    )
    assert not trap.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trap.exists()  # the pickle does what it is feared for


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04 and no more", b"\x80\x02}"])
def test_a_pickle_that_is_damaged_is_one_line(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    assert "error[EXP]: the pickled weights are damaged: " in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_changed_after_it_was_declared_is_refused(folder: Path, name: str) -> None:
    model = declared(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(ExportError, match=f"{re.escape(name)} changed while it was being built"):
        load_reference(model, FEATURES, folder)
    (folder / name).unlink()
    assert isinstance(model.source, FolderFiles)
    with pytest.raises(ExportError, match=f"{re.escape(name)} changed"):
        verify_source(model.source, folder)


def test_a_file_that_is_written_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = declared(folder)
    original = transformers.AutoModel.from_pretrained

    def slow(*arguments: Any, **options: Any) -> Any:
        loaded = original(*arguments, **options)
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        return loaded

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", slow)
    with pytest.raises(ExportError, match="a file changed while it was being read"):
        load_reference(model, FEATURES, folder)


def test_truncated_weights_are_refused_in_one_line(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "transformers cannot load it for feature-extraction" in refused(folder)


def test_a_model_type_that_transformers_has_not_is_refused_with_one_that_it_has(folder: Path) -> None:
    reconfigure(folder, model_type="bertt")
    assert refused(folder) == (
        "error[EXP]: transformers has no feature-extraction model for model_type 'bertt': config.json: "
        "did you mean 'bert'?"
    )


def test_an_architecture_that_transformers_has_not_is_refused_and_none_is_no_loss(folder: Path) -> None:
    reconfigure(folder, architectures=["BertModl"])
    assert refused(folder) == (
        "error[EXP]: architectures has 'BertModl', which is no class of transformers: "
        f"{folder}/config.json: did you mean 'BertModel'?"
    )
    reconfigure(folder, architectures=["Foo"])
    assert "architectures has 'Foo', which is no class of transformers: " in refused(folder)
    reconfigure(folder, architectures=[])
    assert not load_reference(declared(folder), FEATURES, folder).training


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 3}, "The hidden size (8) is not a multiple of the number of attention heads (3)"),
        ({"hidden_act": "gelo"}, "transformers cannot load it for feature-extraction: "),
        ({"vocab_size": "many"}, "transformers cannot load it for feature-extraction: "),
        ({"vocab_size": -1}, "transformers cannot load it for feature-extraction: "),
        ({"num_hidden_layers": None}, "transformers cannot load it for feature-extraction: "),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized weights (gptq) cannot be exported"),
        ({"_attn_implementation_internal": "org/kernel"}, "which makes transformers run code from elsewhere"),
    ],
)
def test_a_config_that_cannot_be_is_one_line(folder: Path, changes: dict[str, Any], words: str) -> None:
    reconfigure(folder, **changes)
    assert words in refused(folder)


KERNELS = """
import os
def caught(*arguments, **options):
    open(os.environ["TRAP"], "a").write(f"{arguments} {options}")
    raise RuntimeError("a kernel was asked for")
class Device:
    def __init__(self, *arguments, **options): pass
class Mode:
    TRAINING = INFERENCE = TORCH_COMPILE = 1
class LayerRepository:
    def __init__(self, *arguments, **options): pass
get_kernel = kernelize = replace_kernel_forward_from_hub = caught
def register_kernel_mapping(mapping): pass
def use_kernel_forward_from_hub(name): return lambda cls: cls
"""
LOAD = """
import sys
from pathlib import Path
import transformers
from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.reference import load_reference
from modelbuild.stage_spec import FolderFiles, StageModel
from modelbuild.tasks import TASKS
assert transformers.utils.is_kernels_available()
for folder in map(Path, sys.argv[1:]):
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    try:
        load_reference(StageModel(source=FolderFiles(kind="folder", files=files)), TASKS["feature-extraction"], folder)
        print("loaded")
    except ExportError as error:
        print(*error.lines())
"""
BARE = "import sys, transformers\ntransformers.AutoModel.from_pretrained(sys.argv[1])"


@pytest.mark.slow
def test_no_kernel_is_fetched_even_where_the_package_that_fetches_them_is_installed(tmp_path: Path) -> None:
    site, trap = tmp_path / "site", tmp_path / "trap"
    (site / "kernels-0.9.0.dist-info").mkdir(parents=True)
    (site / "kernels-0.9.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.9.0\n")
    (site / "kernels.py").write_text(KERNELS)
    folders = [tmp_path / name for name in ("remote", "flash", "own")]
    for folder, attention in zip(folders, ("org/kernel", "flash_attention_2", "eager"), strict=True):
        config = transformers.DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=30)
        transformers.DistilBertModel(config).save_pretrained(folder)
        reconfigure(folder, _attn_implementation_internal=attention)
    environment = os.environ | {"TRAP": str(trap), "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}

    def load(program: str, *paths: Path) -> str:
        command = [sys.executable, "-c", program, *map(str, paths)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    remote, flash, own = load(LOAD, *folders).splitlines()
    assert "which makes transformers run code from elsewhere" in remote
    assert (flash, own) == ("loaded", "loaded")
    assert not trap.exists()
    load(BARE, folders[1])
    assert "kernels-community/flash-attn" in trap.read_text()  # what transformers alone asks for


def test_the_attention_of_the_original_is_the_same_whatever_config_names(folder: Path) -> None:
    reconfigure(folder, _attn_implementation_internal="eager")
    model = load_reference(declared(folder), FEATURES, folder)
    assert model.config._attn_implementation == "sdpa"


def test_a_folder_that_is_not_known_is_refused(saved: Path) -> None:
    with pytest.raises(ExportError, match="the model's folder is not known"):
        load_reference(declared(saved), FEATURES, None)


def drawn(seed: int = 0, architecture: str = "BertModel", **config: Any) -> StageModel:
    return StageModel(source=InitSource(kind="init", architecture=architecture, seed=seed, config=SIZES | config))


def test_the_same_seed_draws_the_same_weights_and_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = weights(load_reference(drawn(seed=1), FEATURES, None))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert same(first, weights(load_reference(drawn(seed=1), FEATURES, None)))
    assert not same(first, weights(load_reference(drawn(seed=2), FEATURES, None)))


def test_labels_and_the_common_names_of_sizes_can_be_set_for_every_family() -> None:
    model = load_reference(drawn(num_labels=5), CLASSES, None)
    assert only_component(model, CLASSES).run(INPUTS)["logits"].shape == (1, 5)
    names: dict[str, JsonValue] = {
        "hidden_size": 8,
        "num_attention_heads": 2,
        "vocab_size": 30,
        "n_layers": 1,
        "hidden_dim": 8,
    }
    source = InitSource(kind="init", architecture="DistilBertModel", config=names)
    model = load_reference(StageModel(source=source), FEATURES, None)
    assert model.config.dim == 8


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            drawn(architecture="BertModl"),
            "transformers has no model class 'BertModl': model.source.architecture: did you mean 'BertModel'?",
        ),
        (drawn(architecture="AutoModel"), "transformers has no model class 'AutoModel'"),
        (drawn(vocab_sise=3), "BertConfig has no 'vocab_sise': model.source.config: did you mean 'vocab_size'?"),
        (
            drawn(hidden_size=9),
            "BertModel cannot be made for feature-extraction: The hidden size (9) is not a multiple",
        ),
        (drawn(vocab_size=-1), "BertModel cannot be made for feature-extraction: "),
        (drawn(hidden_act="gelo"), "BertModel cannot be made for feature-extraction: "),
        (drawn(problem_type="what"), "BertConfig refuses it: "),
    ],
)
def test_an_architecture_or_config_that_cannot_be_is_one_line_with_a_suggestion(model: StageModel, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        load_reference(model, FEATURES, None)
    (line,) = caught.value.lines()
    assert words in line
    assert "\n" not in line


def test_the_config_of_an_init_source_is_plain_json_with_every_size() -> None:
    source = drawn().source
    assert isinstance(source, InitSource)
    config = reference_config(source)
    assert {key: config[key] for key in SIZES} == SIZES
    assert config["model_type"] == "bert"


def test_the_architecture_of_a_task_is_what_transformers_builds() -> None:
    assert architecture_for({"model_type": "bert"}, MASKED) == "BertForMaskedLM"
    assert architecture_for({"model_type": "distilbert"}, CLASSES) == "DistilBertForSequenceClassification"
    for model_type in ("vit", "bertt"):
        with pytest.raises(ExportError, match=f"transformers has no fill-mask model for model_type '{model_type}'"):
            architecture_for({"model_type": model_type}, MASKED)


def test_inputs_are_those_that_forward_takes_in_the_order_of_the_task() -> None:
    assert only_component(load_reference(drawn(), FEATURES, None), FEATURES).interface.input_names() == FEATURES.inputs
    names: dict[str, JsonValue] = {"dim": 8, "n_heads": 2, "vocab_size": 30, "n_layers": 1, "hidden_dim": 8}
    model = load_reference(
        StageModel(source=InitSource(kind="init", architecture="DistilBertModel", config=names)), FEATURES, None
    )
    assert only_component(model, FEATURES).interface.input_names() == ("input_ids", "attention_mask")


def test_a_model_that_takes_no_text_is_refused() -> None:
    sizes: dict[str, JsonValue] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    source = InitSource(kind="init", architecture="ViTModel", config=sizes | {"intermediate_size": 8})
    with pytest.raises(
        ExportError,
        match=r"ViTModel takes pixel_values, and feature-extraction has input_ids.*: task.name: choose task=image-",
    ):
        only_component(load_reference(StageModel(source=source), FEATURES, None), FEATURES)


def test_running_gives_the_named_outputs_without_gradients() -> None:
    found = only_component(load_reference(drawn(), FEATURES, None), FEATURES).run(INPUTS)
    assert list(found) == ["last_hidden_state"]
    assert found["last_hidden_state"].shape == (1, 3, 8)
    assert found["last_hidden_state"].dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "attention"), [("BertModel", "sdpa"), ("ElectraModel", "eager")])
def test_attention_is_pytorchs_own_where_the_architecture_has_it(architecture: str, attention: str) -> None:
    config: dict[str, JsonValue] = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    source = InitSource(kind="init", architecture=architecture, config=config)
    model = load_reference(StageModel(source=source), TASKS["feature-extraction"], None)
    assert model.config._attn_implementation == attention
