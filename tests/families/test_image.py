"""Packages of image models, opened with Optimum in a process of their own, answer as PyTorch does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from families.building import FAST, build
from families.image_checkpoints import LABELS, Name, picture, save_checkpoint
from families.opened import answers

from modelbuild.errors import ExportError, InputError, ValidationError
from modelbuild.families.image import components
from modelbuild.report import read_report
from modelbuild.runtime import load
from modelbuild.runtime.model import Model
from modelbuild.tasks import TASKS

pytestmark = pytest.mark.slow

TEXTS = ("the cat", "t h e !", "a hat that sat")

_CLASSIFY = """
import json
from PIL import Image
from optimum.onnxruntime import ORTModelForImageClassification
from optimum.pipelines import pipeline
from transformers import AutoImageProcessor

images = [Image.fromarray(array, "RGB") for array in given["pictures"]]
processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
model = ORTModelForImageClassification.from_pretrained(folder)
answers["logits"] = model(**processor(images, return_tensors="pt")).logits
pipe = pipeline("image-classification", model=model, image_processor=processor, accelerator="ort")
answers["pipeline"] = json.dumps([pipe(image, top_k=5) for image in images])
"""
_FEATURES = """
from PIL import Image
from optimum.onnxruntime import ORTModelForFeatureExtraction
from transformers import AutoImageProcessor, pipeline

images = [Image.fromarray(array, "RGB") for array in given["pictures"]]
processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
model = ORTModelForFeatureExtraction.from_pretrained(folder)
answers["last_hidden_state"] = model(**processor(images, return_tensors="pt")).last_hidden_state
pipe = pipeline("image-feature-extraction", model=model, image_processor=processor, framework="pt")
answers["pipeline"] = [pipe(image)[0] for image in images]
"""
_ZERO_SHOT = """
import json
from PIL import Image
from optimum.onnxruntime import ORTModelForZeroShotImageClassification
from optimum.pipelines import pipeline
from transformers import AutoImageProcessor, AutoTokenizer

images = [Image.fromarray(array, "RGB") for array in given["pictures"]]
texts = [str(text) for text in given["texts"]]
processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = ORTModelForZeroShotImageClassification.from_pretrained(folder)
encoded = tokenizer(texts, padding=True, return_tensors="pt")
outputs = model(**encoded, **processor(images, return_tensors="pt"))
answers |= {name: tensor.numpy() for name, tensor in outputs.items()}
pipe = pipeline(
    "zero-shot-image-classification", model=model, tokenizer=tokenizer, image_processor=processor, accelerator="ort"
)
answers["pipeline"] = json.dumps([pipe(image, candidate_labels=texts, hypothesis_template="{}") for image in images])
"""


def _built(tmp_path: Path, name: Name, head: str, *overrides: str) -> tuple[Path, torch.nn.Module]:
    """The package of a checkpoint, and its PyTorch model."""
    source, folder = tmp_path / "source", tmp_path / "build"
    source.mkdir()
    folder.mkdir()
    model = save_checkpoint(source, name, head)
    return build(folder, "model=path", f"model.name={name}", f"model.source.path={source}", *FAST, *overrides), model


def _pictures() -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(picture(seed)) for seed in (1, 2)])


def _pixels(folder: Path) -> Any:
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    return processor([picture(1), picture(2)], return_tensors="pt")["pixel_values"]


def _close(found: Any, wanted: torch.Tensor) -> None:
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_classifier_answers_as_pytorch_does(name: Name, tmp_path: Path) -> None:
    package, model = _built(tmp_path, name, "ForImageClassification")
    found = answers(_CLASSIFY, package, tmp_path, pictures=_pictures())
    with torch.no_grad():
        wanted = model(_pixels(tmp_path / "source")).logits
    _close(found["logits"], wanted)
    for row, said in zip(wanted.softmax(dim=-1), json.loads(str(found["pipeline"])), strict=True):
        assert {item["label"] for item in said} == set(LABELS)
        _close([item["score"] for item in said], torch.stack([row[LABELS.index(item["label"])] for item in said]))
    assert load(package).manifest.verified


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_an_encoder_gives_the_features_that_pytorch_gives(name: Name, tmp_path: Path) -> None:
    package, model = _built(tmp_path, name, "Model")
    assert load(package).manifest.task == "image-feature-extraction"
    found = answers(_FEATURES, package, tmp_path, pictures=_pictures())
    with torch.no_grad():
        wanted = model(_pixels(tmp_path / "source")).last_hidden_state
    _close(found["last_hidden_state"], wanted)
    _close(found["pipeline"], wanted)


def test_images_are_scored_against_texts_as_pytorch_scores_them(tmp_path: Path) -> None:
    package, model = _built(tmp_path, "clip", "Model")
    found = answers(_ZERO_SHOT, package, tmp_path, pictures=_pictures(), texts=np.array(TEXTS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "source")
    with torch.no_grad():
        texts = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        wanted = model(**texts, pixel_values=_pixels(tmp_path / "source"))
    assert found["logits_per_image"].shape == (2, 3)
    for name in ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"):
        _close(found[name], wanted[name])
    for row, said in zip(wanted.logits_per_image.softmax(-1), json.loads(str(found["pipeline"])), strict=True):
        _close([item["score"] for item in said], torch.stack([row[TEXTS.index(item["label"])] for item in said]))
    optimized = read_report(tmp_path / "build" / "optimize" / "report.json").facts
    assert optimized["warnings"] == []
    assert optimized["attention_fusions"] == ["4 of 4 layers (com.microsoft.Attention x 4)"]


def _logits(model: Model, *shape: int) -> npt.NDArray[np.float32]:
    pixels = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return model.run({"pixel_values": pixels})["logits"]


def test_convolutions_take_images_of_any_size_and_patches_take_one(tmp_path: Path) -> None:
    package, model = _built(tmp_path, "resnet", "ForImageClassification", "providers=cpu")
    opened = load(package)
    for height, width in ((224, 224), (33, 70), (1, 5)):
        pixels = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
        with torch.no_grad():
            _close(_logits(opened, 1, 3, height, width), model(torch.from_numpy(pixels)).logits)
    with pytest.raises(InputError, match="pixel_values: axis 1 must be 3, got 1"):
        _logits(opened, 1, 1, 33, 70)
    validation = read_report(tmp_path / "build" / "validate" / "validation.json")
    weights = {check.name: check for check in validation.checks}["weights"]
    assert "derived" in weights.compared
    optimized = read_report(tmp_path / "build" / "optimize" / "report.json").facts
    assert (optimized["attention_fusions"], optimized["warnings"]) == ([], [])
    vit = tmp_path / "vit"
    vit.mkdir()
    fixed = load(_built(vit, "vit", "ForImageClassification")[0])
    with pytest.raises(InputError, match="pixel_values: axis 2 must be 32, got 33"):
        _logits(fixed, 1, 3, 33, 32)


def test_a_benchmark_of_images_compares_both_sides(tmp_path: Path) -> None:
    one = (
        "benchmark.batch_sizes=[1]",
        "benchmark.rounds=5",
        "benchmark.runs=1",
        "benchmark.warmup=1",
        "benchmark.loads=3",
    )
    package = build(tmp_path, "model=vit-tiny", "validation=quick", "benchmark=quick", *one)
    cases = load(package).manifest.benchmark["cases"]
    assert [(label, case["batch"], case["length"]) for label, case in cases.items()] == [("b1", 1, None)]
    assert all(case["gflop"] > 0 for case in cases.values())


def _refused(tmp_path: Path, *overrides: str) -> str:
    folder = tmp_path / "build"
    folder.mkdir()
    with pytest.raises((ExportError, ValidationError)) as raised:
        build(folder, "model=path", "model.name=x", f"model.source.path={tmp_path / 'source'}", *FAST, *overrides)
    return str(raised.value)


def _edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder of a ViT that classifies. To be broken."""
    folder = tmp_path / "source"
    folder.mkdir()
    save_checkpoint(folder, "vit")
    return folder


def test_an_image_task_is_refused_for_a_text_model(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    folder.mkdir()
    with pytest.raises(ExportError, match="image-classification"):
        build(folder, "model=bert-tiny", "task=image-classification", *FAST)


def test_a_text_task_is_refused_for_an_image_model(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="a ViTModel takes pixel_values, and feature-extraction has input_ids"):
        build(tmp_path, "model=vit-tiny", "task=feature-extraction", *FAST)


def test_a_model_of_images_alone_cannot_score_them_against_texts() -> None:
    model = transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=1))
    with pytest.raises(ExportError, match="choose a model of images and texts, or another task"):
        components(model, TASKS["zero-shot-image-classification"])


def test_a_folder_without_an_image_processor_is_refused_before_export(source: Path, tmp_path: Path) -> None:
    (source / "preprocessor_config.json").unlink()
    said = _refused(tmp_path)
    assert "no image processor files" in said
    assert "expected preprocessor_config.json; or sidecar=off" in said
    assert not (tmp_path / "build" / "export").exists()


def test_a_processor_that_is_no_json_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "preprocessor_config.json").write_text('{"size": 32', encoding="utf-8")
    assert "preprocessor_config.json is not valid JSON" in _refused(tmp_path)


def test_a_processor_of_no_known_kind_is_refused(source: Path, tmp_path: Path) -> None:
    _edit(source / "preprocessor_config.json", image_processor_type="Sharpener")
    assert "the image processor cannot be read" in _refused(tmp_path)


def test_a_processor_for_grey_images_is_refused_for_a_model_of_coloured_ones(source: Path, tmp_path: Path) -> None:
    _edit(source / "preprocessor_config.json", image_mean=[0.5], image_std=[0.5])
    assert "the image processor cannot be used: mean must have 3 elements" in _refused(tmp_path)


def test_a_processor_that_makes_another_size_than_the_model_takes_is_told(source: Path, tmp_path: Path) -> None:
    _edit(source / "preprocessor_config.json", size={"height": 48, "width": 32})
    assert "seeded 64x64 becomes 48x32, the graph takes 32x32" in _refused(tmp_path)


def test_a_model_of_other_channels_than_its_processor_makes_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    save_checkpoint(folder, "vit", num_channels=1)
    assert "seeded 64x64: 3 channels, the graph takes 1" in _refused(tmp_path)


def test_labels_that_are_fewer_than_the_classes_of_the_head_are_refused(source: Path, tmp_path: Path) -> None:
    _edit(source / "config.json", id2label={"0": "pear"}, label2id={"pear": 0})
    assert "classifier" in _refused(tmp_path)


def test_labels_of_a_wrong_order_are_refused(source: Path, tmp_path: Path) -> None:
    _edit(source / "config.json", label2id={label: 4 - number for number, label in enumerate(LABELS)})
    assert "label2id is not the inverse of id2label" in _refused(tmp_path)


def test_an_image_size_that_the_weights_do_not_have_is_refused(source: Path, tmp_path: Path) -> None:
    _edit(source / "config.json", image_size=64)
    assert "position_embeddings" in _refused(tmp_path)
