from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.reference import (
    architecture_for,
    input_names,
    load_reference,
    reference_config,
    run_reference,
    verify_source,
)
from modelbuild.spec import InitSource, Scalar
from modelbuild.stage_spec import FolderFiles, StageModel
from modelbuild.tasks import TASKS

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


def test_a_head_that_the_checkpoint_lacks_is_refused_and_named(saved: Path) -> None:
    with pytest.raises(ExportError) as caught:
        load_reference(declared(saved), CLASSES, saved)
    (line,) = caught.value.lines()
    assert (
        "BertForSequenceClassification needs weights that the checkpoint does not have: classifier.bias, class" in line
    )
    assert line.endswith("the checkpoint is not for text-classification; choose another task or checkpoint")


def test_layers_that_the_checkpoint_lacks_are_counted_and_the_first_named(folder: Path) -> None:
    reconfigure(folder, num_hidden_layers=2)
    with pytest.raises(ExportError, match=r"does not have: encoder\.layer\.1\..* and 12 more"):
        load_reference(declared(folder), FEATURES, folder)


def test_a_pooler_that_the_checkpoint_lacks_is_no_loss_for_features(folder: Path) -> None:
    transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    model = load_reference(declared(folder), FEATURES, folder)
    assert np.isfinite(run_reference(model, INPUTS, FEATURES.outputs)["last_hidden_state"]).all()


def test_tied_weights_that_a_checkpoint_holds_once_are_not_missing(tmp_path: Path) -> None:
    original = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    original.save_pretrained(tmp_path)
    assert same(weights(load_reference(declared(tmp_path), MASKED, tmp_path)), weights(original))


def test_weights_of_another_shape_are_refused_and_named(folder: Path) -> None:
    reconfigure(folder, vocab_size=31)
    with pytest.raises(ExportError) as caught:
        load_reference(declared(folder), FEATURES, folder)
    assert "BertModel needs weights of another shape: embeddings.word_embeddings.weight" in str(caught.value)


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


def test_truncated_weights_are_refused_in_one_line(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ExportError, match="transformers cannot load it for feature-extraction") as caught:
        load_reference(declared(folder), FEATURES, folder)
    assert len(caught.value.lines()[0].splitlines()) == 1


def test_a_model_type_that_transformers_has_not_is_refused(folder: Path) -> None:
    reconfigure(folder, model_type="bertt")
    with pytest.raises(ExportError, match="transformers cannot load it"):
        load_reference(declared(folder), FEATURES, folder)


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
    assert run_reference(model, INPUTS, CLASSES.outputs)["logits"].shape == (1, 5)
    names: dict[str, Scalar] = {
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
    assert input_names(load_reference(drawn(), FEATURES, None), FEATURES) == FEATURES.inputs
    names: dict[str, Scalar] = {"dim": 8, "n_heads": 2, "vocab_size": 30, "n_layers": 1, "hidden_dim": 8}
    model = load_reference(
        StageModel(source=InitSource(kind="init", architecture="DistilBertModel", config=names)), FEATURES, None
    )
    assert input_names(model, FEATURES) == ("input_ids", "attention_mask")


def test_a_model_that_takes_no_text_is_refused() -> None:
    sizes: dict[str, Scalar] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    source = InitSource(kind="init", architecture="ViTModel", config=sizes | {"intermediate_size": 8})
    with pytest.raises(ExportError, match="ViTModel takes pixel_values and not input_ids: feature-extraction"):
        input_names(load_reference(StageModel(source=source), FEATURES, None), FEATURES)


def test_running_gives_the_named_outputs_without_gradients() -> None:
    found = run_reference(load_reference(drawn(), FEATURES, None), INPUTS, FEATURES.outputs)
    assert list(found) == ["last_hidden_state"]
    assert found["last_hidden_state"].shape == (1, 3, 8)
    assert found["last_hidden_state"].dtype == np.float32
