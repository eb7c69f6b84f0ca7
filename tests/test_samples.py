from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.batches import covering_batches, random_batches
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.masks import MASKS, Ints, applies, attention_mask
from modelbuild.samples import Batch, sample
from modelbuild.sizes import longest, typical_sizes
from modelbuild.tasks import TASKS, TEXT_INPUTS
from modelbuild.text_limits import Limits, limits_of, text_interface

TASK = TASKS["feature-extraction"]


def interface(
    vocabulary: int = 11, types: int = 2, positions: int = 8, names: tuple[str, ...] = TEXT_INPUTS
) -> Interface:
    limits = Limits(vocab_size=vocabulary, type_vocab_size=types, max_positions=positions)
    return text_interface(TASK, names, limits)


TEXT = interface()
SHAPES = [(1, 2), (2, 2), (3, 7), (7, 8)]


def valid(batch: Batch) -> npt.NDArray[np.bool_]:
    """Where an output with a value per token means anything."""
    return batch.placed(TASK.outputs[0], np.zeros((*batch.inputs["input_ids"].shape, 1)))[1]


def batches(seed: int = 0, sequences: tuple[int, ...] = (1, 2, 7)) -> list[Batch]:
    kinds = ("ones", "right", "left")
    return list(
        random_batches(TEXT, batches=(1, 3), sequences=sequences, masks=kinds, seed=seed),
    )


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        a.kind == b.kind and all(np.array_equal(a.inputs[name], b.inputs[name]) for name in TEXT_INPUTS)
        for a, b in zip(first, second, strict=True)
    )


def masks(kind: str, shape: tuple[int, int]) -> list[Ints]:
    rng = np.random.default_rng(0)
    return [attention_mask(shape, kind, rng) for _ in range(50)]


def test_batches_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert equal(batches(seed=3), batches(seed=3))
    assert not equal(batches(seed=3), batches(seed=4))


def test_there_is_a_batch_for_every_combination_and_one_token_is_not_padded() -> None:
    assert [batch.label for batch in batches()] == [
        f"{words} {size}"
        for size in ("1x1", "1x2", "1x7", "3x1", "3x2", "3x7")
        for words in ("no padding", "right padding", "left padding")
        if words == "no padding" or size[2] != "1"
    ]


def test_a_kind_is_what_the_batch_is() -> None:
    for batch in batches():
        words, size = batch.label.rsplit(" ", 1)
        for array in batch.inputs.values():
            assert "x".join(map(str, array.shape)) == size
            assert array.dtype == np.int64
        assert valid(batch).all() == (words == "no padding")


def test_lengths_are_at_most_the_maximum_and_come_once() -> None:
    kinds = [batch.label for batch in batches(sequences=(2, 8, 9, 500)) if batch.label.startswith("no padding 1x")]
    assert kinds == ["no padding 1x2", "no padding 1x8"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_padded_mask_has_its_padding_at_the_end_of_rows(shape: tuple[int, int]) -> None:
    for mask in masks("right", shape):
        assert (np.diff(mask, axis=1) <= 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_left_padded_mask_has_its_padding_at_the_start_of_rows(shape: tuple[int, int]) -> None:
    for mask in masks("left", shape):
        assert (np.diff(mask, axis=1) >= 0).all()


@pytest.mark.parametrize("kind", ["right", "left"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_of_a_padded_mask_has_a_token_and_some_row_has_padding(kind: str, shape: tuple[int, int]) -> None:
    for mask in masks(kind, shape):
        assert mask.shape == shape
        assert mask.dtype == np.int64
        assert mask.flags.c_contiguous
        assert set(np.unique(mask)) == {0, 1}
        assert (mask.sum(axis=1) >= 1).all()


def test_padded_rows_have_different_lengths() -> None:
    lengths = np.concatenate([mask.sum(axis=1)[None] for mask in masks("right", (3, 7))])
    assert set(lengths[:, 0].tolist()) == set(range(1, 7))
    assert set(lengths[:, 1:].ravel().tolist()) == set(range(1, 8))


def test_a_mask_with_holes_has_tokens_at_both_ends_of_each_row_and_padding_between_them() -> None:
    for mask in masks("holes", (3, 7)):
        assert mask[:, [0, -1]].all()
        assert (mask.sum(axis=1) < 7).all()


def test_a_mask_of_one_token_has_it_anywhere() -> None:
    found = np.concatenate(masks("one", (3, 7)))
    assert (found.sum(axis=1) == 1).all()
    assert found.any(axis=0).all()


def test_an_empty_row_is_the_last_and_the_others_have_tokens() -> None:
    for mask in masks("empty", (3, 7)):
        assert not mask[-1].any()
        assert mask[:-1].any(axis=1).all()


def test_a_mask_of_no_known_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no mask 'diagonal'"):
        attention_mask((2, 3), "diagonal", np.random.default_rng(0))


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 3), (2, 3)])
def test_a_mask_applies_where_it_is_one_of_its_own(kind: str, shape: tuple[int, int]) -> None:
    made = masks(kind, shape)
    assert {mask.dtype for mask in made} == {np.dtype("int64")}
    if applies(kind, batch=shape[0], sequence=shape[1]):
        assert all((mask == 0).any() == (kind != "ones") for mask in made)
        assert all(mask.any() for mask in made)


def test_with_so_many_masks_at_each_size_every_mask_still_meets_a_short_and_a_long_one() -> None:
    sizes, lengths = (1, 2, 3, 7), (1, 2, 6, 7, 8)
    made = list(random_batches(TEXT, batches=sizes, sequences=lengths, masks=tuple(MASKS), seed=0, per_size=2))
    met = {(words, size) for words, size in (batch.label.rsplit(" ", 1) for batch in made)}
    assert len(made) == len(met) <= 2 * len(sizes) * len(lengths)
    for words in MASKS.values():
        chosen = {size.split("x")[1] for kind, size in met if kind == words}
        assert chosen >= {"6", "7", "8"} if words != "no padding" else {"1", "2"}
        assert len({size.split("x")[0] for kind, size in met if kind == words}) >= 3


def test_covering_some_tokens_still_covers_every_position_and_type() -> None:
    (part,) = covering_batches(interface(100), seed=0, tokens=20)
    assert part.inputs["input_ids"].shape == (3, 8)
    assert len(np.unique(part.inputs["input_ids"])) == 20
    assert set(np.unique(part.inputs["token_type_ids"])) == {0, 1}


@pytest.mark.parametrize("kind", ["ones", "right", "left"])
def test_a_mask_of_ones_and_one_of_one_token_have_no_padding(kind: str) -> None:
    assert attention_mask((3, 1), kind, np.random.default_rng(0)).all()
    assert attention_mask((3, 4), "ones", np.random.default_rng(0)).all()


def test_tokens_and_types_reach_their_limits_and_no_further() -> None:
    rng = np.random.default_rng(0)
    batch = sample(TEXT, {"batch": 40, "sequence": 8}, mask="ones", rng=rng)
    assert set(np.unique(batch.inputs["input_ids"])) == set(range(11))
    assert set(np.unique(batch.inputs["token_type_ids"])) == {0, 1}


def test_covering_batches_look_up_every_row_of_every_table_and_hide_none() -> None:
    parts = list(covering_batches(interface(100, 3), seed=0))
    assert {part.kind for part in parts} == {"embeddings"}
    assert [part.inputs["input_ids"].shape for part in parts] == [(4, 8), (4, 8), (4, 8), (1, 8)]
    for name, rows in (("input_ids", 100), ("token_type_ids", 3)):
        assert {int(row) for part in parts for row in part.inputs[name].ravel()} == set(range(rows))
    assert all(valid(part).all() for part in parts)
    assert {array.dtype for part in parts for array in part.inputs.values()} == {np.dtype("int64")}


def test_covering_batches_of_a_small_vocabulary_still_reach_the_last_position() -> None:
    (part,) = covering_batches(interface(3, 1, names=("input_ids",)), seed=0)
    assert part.inputs["input_ids"].shape == (1, 8)
    assert list(part.inputs) == ["input_ids"]


def test_covering_batches_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert equal(list(covering_batches(TEXT, seed=1)), list(covering_batches(TEXT, seed=1)))
    assert not equal(list(covering_batches(TEXT, seed=1)), list(covering_batches(TEXT, seed=2)))


def test_a_batch_has_the_inputs_that_were_asked_for_in_order() -> None:
    names = ("attention_mask", "input_ids")
    sizes = {"batch": 1, "sequence": 2}
    batch = sample(interface(names=names), sizes, mask="ones", rng=np.random.default_rng(0))
    assert tuple(batch.inputs) == names


def test_valid_positions_are_those_of_the_mask() -> None:
    ids, mask = np.array([[5, 6, 7]]), np.array([[0, 1, 1]])
    batch = Batch(
        kind="left 1x3", interface=interface(names=TEXT_INPUTS[:2]), inputs={"input_ids": ids, "attention_mask": mask}
    )
    assert valid(batch).tolist() == [[False, True, True]]


def test_every_position_is_valid_for_a_model_without_a_mask() -> None:
    inputs = {"input_ids": np.array([[5, 6, 0]])}
    found = valid(Batch(kind="right 1x3", interface=interface(names=("input_ids",)), inputs=inputs))
    assert found.dtype == bool
    assert found.tolist() == [[True, True, True]]


@pytest.mark.parametrize("none", [None, -1, 0])
def test_a_config_without_a_maximum_has_no_limit_and_is_tried_at_512_positions(none: int | None) -> None:
    limits = limits_of(SimpleNamespace(vocab_size=10, max_position_embeddings=none))
    assert limits == Limits(vocab_size=10, type_vocab_size=1, max_positions=None)
    free = text_interface(TASK, TEXT_INPUTS, limits)
    assert free.limits() == {}
    assert longest(free) == 512


def test_limits_are_those_of_the_config() -> None:
    config = SimpleNamespace(vocab_size=30522, type_vocab_size=2, max_position_embeddings=128, pad_token_id=1)
    assert limits_of(config) == Limits(vocab_size=30522, type_vocab_size=2, max_positions=128)


@pytest.mark.parametrize("config", [SimpleNamespace(vocab_size=9), SimpleNamespace(vocab_size=9, type_vocab_size=0)])
def test_limits_that_a_family_lacks_are_one_type_and_no_number_of_positions(config: object) -> None:
    assert limits_of(config) == Limits(vocab_size=9, type_vocab_size=1, max_positions=None)


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 514), ("roberta", 512), ("mpnet", 512)])
def test_positions_that_a_family_counts_from_its_padding_id_are_fewer(model_type: str, positions: int) -> None:
    config = SimpleNamespace(vocab_size=9, model_type=model_type, max_position_embeddings=514, pad_token_id=1)
    assert limits_of(config).max_positions == positions


# A recurrent network: a series, the state before it with a layer first, and what both become.
SERIES, STATE = ("batch", "sequence", 8), (2, "batch", 16)
RECURRENT = Interface(
    inputs=(
        Input(name="x", dtype="float32", shape=SERIES),
        Input(name="h0", dtype="float32", shape=STATE),
        Input(name="scale", dtype="float32", shape=()),
    ),
    outputs=(Output(name="y", shape=SERIES), Output(name="h", shape=STATE), Output(name="z", shape=SERIES[1::-1])),
    axes=(Axis(name="batch", kind="batch"), Axis(name="sequence", kind="length")),
)


def recurrent() -> Batch:
    return sample(RECURRENT, {"batch": 3, "sequence": 5}, mask="ones", rng=np.random.default_rng(0))


def test_a_row_alone_is_taken_from_the_axis_of_rows_wherever_that_is() -> None:
    batch = recurrent()
    row = batch.row(1)
    assert np.array_equal(row.inputs["x"], batch.inputs["x"][1:2])
    assert np.array_equal(row.inputs["h0"], batch.inputs["h0"][:, 1:2])
    assert isinstance(row.inputs["scale"], np.ndarray)
    assert row.sizes == {"batch": 1, "sequence": 5}


def test_an_output_is_placed_with_its_rows_first_wherever_they_are() -> None:
    batch, (_, state, series) = recurrent(), RECURRENT.outputs
    array = np.arange(2 * 3 * 16).reshape(2, 3, 16)
    found, rows = batch.placed(state, array)
    assert np.array_equal(found, array.transpose(1, 0, 2))
    assert rows.tolist() == [True] * 3
    found, positions = batch.placed(series, np.arange(15).reshape(5, 3))
    assert np.array_equal(found, np.arange(15).reshape(5, 3).T)
    assert positions.shape == (3, 5)


def limited(smallest: int, largest: int | None) -> Interface:
    axes = (Axis(name="batch", kind="batch", smallest=smallest, largest=largest), *TEXT.axes[1:])
    return TEXT.model_copy(update={"axes": axes})


@pytest.mark.parametrize(("smallest", "largest", "sizes"), [(1, 4, [1, 2, 4]), (2, 3, [2, 3]), (5, None, [5, 7, 9])])
def test_rows_are_as_many_as_the_interface_allows(smallest: int, largest: int | None, sizes: list[int]) -> None:
    found = limited(smallest, largest)
    made = list(random_batches(found, batches=(1, 2, 7, 9), sequences=(3,), masks=("ones",), seed=0))
    assert [batch.rows for batch in made] == sizes
    assert typical_sizes(found, batch=64, length=1)["batch"] == (largest or 64)


@pytest.mark.parametrize(("smallest", "largest"), [(1, 2), (3, 3), (20, None)])
def test_covering_batches_have_as_many_rows_as_the_interface_allows(smallest: int, largest: int | None) -> None:
    found = interface(53, 2).model_copy(update={"axes": limited(smallest, largest).axes})
    parts = list(covering_batches(found, seed=0))
    assert {int(row) for part in parts for row in part.inputs["input_ids"].ravel()} == set(range(53))
    assert all(smallest <= part.rows <= (largest or 20) for part in parts)
