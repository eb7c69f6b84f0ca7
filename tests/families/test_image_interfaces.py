"""What image models take and give, and the inputs that are made for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families.image_checkpoints import Name, model_of

from modelbuild.batches import covering_batches, random_batches
from modelbuild.component import Component
from modelbuild.families.image import components
from modelbuild.samples import Batch
from modelbuild.sizes import typical_sizes
from modelbuild.tasks import TASKS, TaskName


def _component(name: Name, task: TaskName, head: str = "Model", **settings: Any) -> Component:
    (component,) = components(model_of(name, head, **settings), TASKS[task])
    return component


@pytest.fixture(scope="module")
def clip() -> Component:
    return _component("clip", "zero-shot-image-classification")


def _batches(component: Component) -> list[Batch]:
    masks = ("ones", "right", "left", "holes", "empty")
    return list(random_batches(component.interface, batches=(3, 1), sequences=(2, 9), masks=masks, seed=0))


@pytest.mark.parametrize(
    ("name", "shape", "layers"),
    [("vit", ("batch", 3, 32, 32), 2), ("resnet", ("batch", 3, "height", "width"), 0)],
)
def test_patches_have_one_size_and_convolutions_any(name: Name, shape: tuple[int | str, ...], layers: int) -> None:
    component = _component(name, "image-classification", "ForImageClassification")
    assert [value.shape for value in component.interface.inputs] == [shape]
    assert component.attention_layers == layers


def test_a_size_of_height_and_width_is_kept_in_order() -> None:
    component = _component("vit", "image-feature-extraction", image_size=[16, 32])
    assert component.interface.inputs[0].shape == ("batch", 3, 16, 32)


def test_convolutions_are_tried_at_their_native_size_and_at_odd_ones() -> None:
    component = _component("resnet", "image-classification", "ForImageClassification")
    sizes = {batch.inputs["pixel_values"].shape[2:] for batch in _batches(component)}
    assert (224, 224) in sizes
    assert any(height % 2 and width % 2 for height, width in sizes)
    assert any(height != width for height, width in sizes)


def test_the_map_of_convolutions_is_as_large_as_the_image_makes_it() -> None:
    found = _component("resnet", "image-feature-extraction").interface
    assert [axis.name for axis in found.axes_of("derived")] == ["feature_height", "feature_width"]
    assert list(typical_sizes(found, batch=1, length=1)) == ["batch", "height", "width"]


def test_images_and_texts_are_tried_in_different_numbers(clip: Component) -> None:
    counts = [(batch.sizes["image_batch"], batch.sizes["text_batch"]) for batch in _batches(clip)]
    assert any(images == texts for images, texts in counts)
    assert any(images != texts for images, texts in counts)


def test_each_text_ends_once_at_its_last_token(clip: Component) -> None:
    for batch in _batches(clip):
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"].astype(bool)
        rows = mask.any(axis=1)
        assert ((ids == 3).sum(axis=1) == 1).all()
        last = ids.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
        assert (ids[rows, last[rows]] == 3).all()


def test_an_old_clip_takes_the_largest_id_for_the_end_of_a_text() -> None:
    model = model_of("clip", "Model")
    model.config.text_config.eos_token_id = 2
    (component,) = components(model, TASKS["zero-shot-image-classification"])
    assert component.interface.inputs[0].ends == 63


def test_every_token_is_looked_up_where_the_end_of_the_text_tells_of_it(clip: Component) -> None:
    batches = list(covering_batches(clip.interface, seed=0))
    ids = np.concatenate([batch.inputs["input_ids"] for batch in batches])
    assert ids.shape[1] == 24
    assert (ids[:, -1] == 3).all()
    assert not (ids[:, :-1] == 3).any()
    assert set(ids.ravel().tolist()) == set(range(64))


def test_texts_without_a_token_count_neither_as_rows_nor_as_choices(clip: Component) -> None:
    (batch,) = [batch for batch in _batches(clip) if batch.kind == "an empty row" and batch.sizes["sequence"] == 9]
    images, texts = batch.sizes["image_batch"], batch.sizes["text_batch"]
    per_image, per_text, text, image = clip.interface.outputs
    filled = np.asarray(batch.inputs["attention_mask"].any(axis=1))
    assert filled.sum() == texts - 1
    assert (batch.placed(per_image, np.zeros((images, texts)))[1] == filled[None, :]).all()
    assert (batch.placed(per_text, np.zeros((texts, images)))[1] == filled[:, None]).all()
    assert (batch.placed(text, np.zeros((texts, 16)))[1] == filled).all()
    assert batch.placed(image, np.zeros((images, 16)))[1].all()
