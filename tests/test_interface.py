from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from modelbuild.batches import covering_batches, random_batches
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.masks import MASKS
from modelbuild.samples import sample
from modelbuild.sizes import longest, typical_sizes

DECODER = Interface(
    inputs=(
        Input(name="input_ids", dtype="int64", shape=("batch", "sequence"), content="token_ids", below=50),
        Input(name="attention_mask", dtype="int64", shape=("batch", "total"), content="attention_mask"),
        Input(name="position_ids", dtype="int64", shape=("batch", "sequence"), content="position_ids"),
        Input(name="past_key_values.0.key", dtype="float32", shape=("batch", 2, "past", 4)),
    ),
    outputs=(
        Output(name="logits", shape=("batch", "sequence"), meaning="scores"),
        Output(name="present.0.key", shape=("batch", 2, "total", 4)),
    ),
    axes=(
        Axis(name="batch", kind="batch"),
        Axis(name="sequence", kind="length"),
        Axis(name="past", kind="past", smallest=0),
        Axis(name="total", kind="sum", largest=16, parts=("past", "sequence")),
    ),
)
IMAGE = Interface(
    inputs=(Input(name="pixel_values", dtype="float32", shape=("batch", 3, "height", "width")),),
    outputs=(Output(name="logits", shape=("batch",), meaning="scores"),),
    axes=(
        Axis(name="batch", kind="batch"),
        Axis(name="height", kind="extent", native=32, step=4),
        Axis(name="width", kind="extent", native=32),
    ),
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_an_interface_survives_json() -> None:
    assert Interface.of_facts(DECODER.model_dump(mode="json")) == DECODER


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"inputs": [], "outputs": [], "axes": [], "more": 1},
        {"inputs": [{"name": "x", "dtype": "int64", "shape": [1.5]}], "outputs": [], "axes": []},
        {"inputs": [], "outputs": [{"name": "y", "shape": [], "meaning": "words"}], "axes": []},
        {"inputs": [], "outputs": [], "axes": [{"name": "a", "kind": "depth"}]},
    ],
)
def test_what_is_no_interface_is_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Interface.of_facts(facts)


def test_an_optional_input_may_be_missing_and_another_may_not() -> None:
    optional = DECODER.inputs[2].model_copy(update={"optional": True})
    interface = DECODER.model_copy(update={"inputs": (*DECODER.inputs[:2], optional, DECODER.inputs[3])})
    assert interface.taking(("input_ids",)).input_names() == (
        "input_ids", "attention_mask", "past_key_values.0.key",
    )  # fmt: skip


def test_an_axis_that_is_a_sum_is_as_long_as_its_parts() -> None:
    batch = sample(DECODER, {"batch": 2, "sequence": 3, "past": 5}, mask="left", rng=rng())
    assert batch.inputs["attention_mask"].shape == (2, 8)
    assert batch.sizes == {"batch": 2, "sequence": 3, "past": 5, "total": 8}
    assert batch.label == "left padding 2x3 after 5"


def test_positions_are_counted_from_the_first_token_of_each_row() -> None:
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    sizes = {"batch": 2, "sequence": 2, "past": 3}
    batch = sample(DECODER, sizes, mask="ones", rng=rng(), given={"attention_mask": mask})
    assert batch.inputs["position_ids"].tolist() == [[1, 2], [3, 4]]


def test_what_is_valid_follows_the_mask_on_every_axis() -> None:
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
    sizes = {"batch": 3, "sequence": 2, "past": 2}
    batch = sample(DECODER, sizes, mask="ones", rng=rng(), given={"attention_mask": mask})
    logits, present = DECODER.outputs
    assert batch.placed(logits, np.zeros((3, 2, 50)))[1].tolist() == [[True, True], [True, False], [False, False]]
    moved, valid = batch.placed(present, np.zeros((3, 2, 4, 4)))
    assert moved.shape == (3, 4, 2, 4)
    assert valid.tolist() == mask.astype(bool).tolist()
    assert batch.valid_rows["batch"].tolist() == [True, True, False]


def test_a_row_alone_keeps_everything_else() -> None:
    batch = sample(DECODER, {"batch": 3, "sequence": 2, "past": 2}, mask="right", rng=rng())
    row = batch.row(1)
    assert {name: array.shape[0] for name, array in row.inputs.items()} == dict.fromkeys(batch.inputs, 1)
    assert np.array_equal(row.inputs["input_ids"][0], batch.inputs["input_ids"][1])


def test_without_padding_the_positions_are_counted_anew() -> None:
    batch = sample(DECODER, {"batch": 2, "sequence": 4, "past": 3}, mask="left", rng=rng())
    calm = batch.without_padding()
    assert calm is not None
    assert calm.inputs["attention_mask"].all()
    assert calm.inputs["position_ids"].tolist() == [[3, 4, 5, 6]] * 2
    assert np.array_equal(calm.inputs["input_ids"], batch.inputs["input_ids"])
    assert calm.without_padding() is None


def test_batches_of_a_decoder_meet_an_empty_cache_one_position_and_more_under_every_mask() -> None:
    made = list(random_batches(DECODER, batches=(1, 2, 3), sequences=(1, 2, 7), masks=tuple(MASKS), seed=0))
    pasts = {batch.sizes["past"] for batch in made}
    assert pasts >= {0, 1, 7}
    assert {batch.kind for batch in made} == set(MASKS.values())
    assert all(batch.sizes["total"] <= 16 for batch in made)


def test_the_longest_batch_fits_the_limit_of_the_sum() -> None:
    assert longest(DECODER) == 16
    assert typical_sizes(DECODER, batch=1, length=16, past=5) == {"batch": 1, "sequence": 16, "past": 0}
    assert typical_sizes(DECODER, batch=1, length=99)["sequence"] == 16


def test_covering_batches_of_a_decoder_have_an_empty_cache() -> None:
    parts = list(covering_batches(DECODER, seed=0))
    assert {part.sizes["past"] for part in parts} == {0}
    assert {int(token) for part in parts for token in part.inputs["input_ids"].ravel()} == set(range(50))


def test_images_come_in_their_own_size_a_smaller_and_a_larger_one_in_allowed_steps() -> None:
    made = list(random_batches(IMAGE, batches=(1, 2), sequences=(1, 2, 7), masks=tuple(MASKS), seed=0))
    assert {batch.kind for batch in made} == {"no padding"}
    assert {batch.sizes["height"] for batch in made} >= {32, 20, 36}
    assert {batch.sizes["width"] % 2 for batch in made} == {0, 1}
    assert all(batch.sizes["height"] % 4 == 0 for batch in made)
    assert any(batch.sizes["height"] != batch.sizes["width"] for batch in made)
    assert not list(covering_batches(IMAGE, seed=0))
    assert made[0].label == "no padding 1x32x32"
