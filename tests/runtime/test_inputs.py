from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelbuild.errors import InputError, PackageError
from modelbuild.runtime.inputs import InputCheck
from modelbuild.signature import Signature, TensorSpec

IDS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))
MASK = TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "sequence"))
PIXELS = TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, "side"))
SCALE = TensorSpec(name="scale", dtype="float64", shape=())
TEXT = Signature(inputs=(IDS, MASK), outputs=())


def ones(*shape: int, dtype: Any = np.int64) -> npt.NDArray[Any]:
    return np.ones(shape, dtype=dtype)


def check(inputs: Mapping[str, Any], signature: Signature = TEXT, **limits: int) -> dict[str, npt.NDArray[Any]]:
    return InputCheck(signature, limits)(inputs)


def check_one(spec: TensorSpec, value: Any, **limits: int) -> npt.NDArray[Any]:
    """What becomes of `value` as the only input."""
    return check({spec.name: value}, Signature(inputs=(spec,), outputs=()), **limits)[spec.name]


def test_inputs_that_fit_pass_as_they_are_in_the_order_of_the_signature() -> None:
    ids, mask = ones(2, 3), ones(2, 3)
    arrays = check({"attention_mask": mask, "input_ids": ids})
    assert list(arrays) == ["input_ids", "attention_mask"]
    assert arrays["input_ids"] is ids
    assert arrays["attention_mask"] is mask


def test_a_missing_input_is_named_with_what_was_given() -> None:
    with pytest.raises(InputError, match=r"^missing attention_mask: given: input_ids$"):
        check({"input_ids": ones(2, 3)})
    with pytest.raises(InputError, match=r"^missing input_ids, attention_mask: given: nothing$"):
        check({})


def test_an_unknown_input_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^unknown input 'input_id': did you mean 'input_ids'\?$"):
        check({"input_id": ones(2, 3), "attention_mask": ones(2, 3)})
    with pytest.raises(InputError, match=r"^unknown input 'pixels': choose one of attention_mask, input_ids$"):
        check({"input_ids": ones(2, 3), "attention_mask": ones(2, 3), "pixels": ones(1)})


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint16, np.uint32, np.bool_, ">i8"])
def test_integers_that_fit_are_cast(dtype: Any) -> None:
    array = check_one(IDS, ones(2, 3, dtype=dtype) * np.array(1, dtype=dtype))
    assert array.dtype == np.dtype("int64")
    assert array.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint64, np.complex64, "U1", "S1", "M8[s]"])
def test_values_that_a_cast_could_lose_are_refused(dtype: Any) -> None:
    with pytest.raises(InputError, match=r"^input_ids must be int64, got "):
        check_one(IDS, np.zeros((2, 3), dtype=dtype))


def test_a_wider_float_is_refused_and_a_narrower_one_is_cast() -> None:
    assert check_one(PIXELS, ones(2, 3, 5, dtype=np.float16)).dtype == np.float32
    with pytest.raises(InputError, match="pixel_values must be float32, got float64"):
        check_one(PIXELS, ones(2, 3, 5, dtype=np.float64))


@pytest.mark.parametrize("value", [object(), None, [["a", 1], [None, 2]], np.array([[1, 2]], dtype=object)])
def test_objects_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^input_ids must be int64, got (object|<U)"):
        check_one(IDS, value)


def test_rows_of_different_lengths_are_not_an_array() -> None:
    with pytest.raises(InputError, match=r"^input_ids is not an array: .*: its rows are not equally long: pad them$"):
        check_one(IDS, [[1, 2], [3]])


@pytest.mark.parametrize("value", [None, [1, 2], "ids", ones(1, 2)], ids=str)
def test_what_are_no_arrays_by_name_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^arrays by name are wanted, got .*: its inputs: input_ids$"):
        InputCheck(Signature(inputs=(IDS,), outputs=()), {})(value)


def test_a_name_that_is_no_text_is_unknown() -> None:
    with pytest.raises(InputError, match=r"^unknown input '1'"):
        InputCheck(Signature(inputs=(IDS,), outputs=()), {})({1: ones(1, 2)})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", [[1, 255]]), ("float32", [[1, 2.5]]), ("float16", [[1e-3]]), ("int64", [[]])],
    ids=str,
)
def test_a_list_becomes_whatever_holds_its_numbers(dtype: str, value: Any) -> None:
    spec = replace(IDS, dtype=dtype)
    signature = Signature(inputs=(spec,), outputs=())
    found = InputCheck(signature, {}, may_be_empty={"sequence"})({"input_ids": value})["input_ids"]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found, value, rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "value", "said"),
    [
        ("uint8", [[1, 256]], "input_ids has 256, which uint8 cannot hold"),
        ("uint8", [[-1]], "input_ids has -1, which uint8 cannot hold"),
        ("float32", [[1e300]], r"input_ids has 1e\+300, which float32 cannot hold"),
        ("int64", [[0.5]], "input_ids must be int64, got float64"),
    ],
)
def test_a_list_does_not_become_what_cannot_hold_it(dtype: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}$"):
        check_one(replace(IDS, dtype=dtype), value)


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3)])
def test_another_rank_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"^input_ids must have 2 axes \(batch, sequence\), got {len(shape)}$"):
        check_one(IDS, ones(*shape))


def test_a_fixed_axis_has_its_size() -> None:
    with pytest.raises(InputError, match=r"^pixel_values: axis 1 must be 3, got 4$"):
        check_one(PIXELS, ones(2, 4, 5, dtype=np.float32))


@pytest.mark.parametrize(("shape", "axis"), [((2, 4), "sequence differs"), ((3, 3), "batch differs")])
def test_a_symbolic_axis_has_one_size_in_all_inputs(shape: tuple[int, ...], axis: str) -> None:
    with pytest.raises(InputError, match=rf"^{axis}: input_ids has \d, attention_mask has \d$"):
        check({"input_ids": ones(2, 3), "attention_mask": ones(*shape)})


def test_a_symbolic_axis_has_one_size_within_an_input() -> None:
    square = TensorSpec(name="square", dtype="int64", shape=("side", "side"))
    assert check_one(square, ones(3, 3)).shape == (3, 3)
    with pytest.raises(InputError, match=r"^side differs: square has 3, square has 4$"):
        check_one(square, ones(3, 4))


@pytest.mark.parametrize(("shape", "axis"), [((0, 3), "batch"), ((2, 0), "sequence")])
def test_an_empty_axis_is_refused(shape: tuple[int, ...], axis: str) -> None:
    with pytest.raises(InputError, match=rf"^input_ids: {axis} is empty$"):
        check_one(IDS, ones(*shape))


def test_a_limit_is_the_last_size_that_is_taken() -> None:
    assert check_one(IDS, ones(9, 4), sequence=4).shape == (9, 4)
    with pytest.raises(InputError, match=r"^sequence is 5, and the model takes at most 4: input_ids$"):
        check_one(IDS, ones(1, 5), sequence=4)
    with pytest.raises(InputError, match=r"^batch is 3, and the model takes at most 2: input_ids$"):
        check_one(IDS, ones(3, 1), sequence=4, batch=2)


def test_lists_are_taken() -> None:
    array = check_one(IDS, [[1, 2, 3], [4, 5, 6]])
    assert array.dtype == np.int64
    assert array.shape == (2, 3)


@pytest.mark.parametrize("value", [2, 2.5, np.float32(2.5), np.array(3)])
def test_an_input_without_axes_takes_a_number(value: float) -> None:
    array = check_one(SCALE, value)
    assert array.dtype == np.float64
    assert array.shape == ()
    assert float(array) == float(value)


@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[:, ::-1], lambda a: a[:, ::2], lambda a: np.asfortranarray(a)]
)
def test_views_become_contiguous_with_the_same_values(view: Callable[[Any], Any]) -> None:
    value = view(np.arange(12).reshape(3, 4))
    array = check_one(IDS, value)
    assert array.flags.c_contiguous
    assert array.tolist() == value.tolist()


class Foreign:
    """What is no array but can become one, as the tensors of other libraries do."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if self.values is None:
            raise RuntimeError("it is on another device")
        return np.asarray(self.values, dtype=dtype)


def test_what_gives_an_array_is_taken() -> None:
    assert check_one(IDS, Foreign([[1, 2]])).tolist() == [[1, 2]]


def test_what_fails_to_give_an_array_is_named_with_its_reason() -> None:
    with pytest.raises(InputError, match=r"^input_ids is not an array: it is on another device$"):
        check_one(IDS, Foreign(None))


@pytest.mark.slow
def test_torch_tensors_are_taken() -> None:
    import torch

    assert check_one(IDS, torch.tensor([[1, 2]], dtype=torch.int32)).tolist() == [[1, 2]]
    assert check_one(IDS, torch.arange(6).reshape(2, 3).T).shape == (3, 2)
    with pytest.raises(InputError, match="input_ids must be int64, got float32"):
        check_one(IDS, torch.ones(1, 2))
    with pytest.raises(InputError, match=r"pixel_values is not an array: .*requires grad"):
        check_one(PIXELS, torch.ones(1, 3, 2, requires_grad=True))


def check_ids(value: Any, count: int = 10) -> None:
    InputCheck(Signature(inputs=(IDS,), outputs=()), {}, ids={"input_ids": count})({"input_ids": value})


@pytest.mark.parametrize("value", [[[0, 9]], ones(0, 3), ones(2, 3, dtype=np.int32)])
def test_ids_of_the_vocabulary_pass(value: Any) -> None:
    check = InputCheck(Signature(inputs=(IDS,), outputs=()), {}, ids={"input_ids": 10}, may_be_empty={"batch"})
    check({"input_ids": value})


@pytest.mark.parametrize(("value", "said"), [(10, "10"), (-1, "-1"), (-(2**63), str(-(2**63))), (2**62, str(2**62))])
def test_an_id_outside_of_the_vocabulary_is_named_with_its_place(value: int, said: str) -> None:
    array = ones(2, 6)
    array[1, 5] = value
    with pytest.raises(InputError, match=rf"^input_ids\[1, 5\] is {said}, and the model knows 0 to 9$"):
        check_ids(array)


def check_finite(value: Any) -> None:
    signature = Signature(inputs=(replace(PIXELS, shape=("batch", "side")),), outputs=())
    InputCheck(signature, {}, finite=True)({"pixel_values": np.asarray(value, np.float32)})


def test_numbers_that_are_not_finite_are_counted_where_that_is_asked_for() -> None:
    check_finite([[0.5, 1.0]])
    with pytest.raises(InputError, match=r"^pixel_values has 2 values that are not finite"):
        check_finite([[np.nan, 1.0, -np.inf]])
    assert np.isnan(check_one(SCALE, np.float64("nan")))


def test_a_batch_over_the_limit_is_said_with_the_limit() -> None:
    with pytest.raises(InputError, match=r"^batch is 5, and the model takes at most 4: input_ids$"):
        check_one(IDS, ones(5, 3), batch=4)


@pytest.mark.parametrize("dtype", ["int65", "", "words", "a", "i8"])
def test_a_type_that_numpy_does_not_have_is_the_package_s_fault(dtype: str) -> None:
    with pytest.raises(PackageError, match=f"numpy has no type {dtype!r}: input_ids"):
        InputCheck(Signature(inputs=(replace(IDS, dtype=dtype),), outputs=()), {})


def test_shapes_that_fitted_are_not_looked_at_again_and_others_are() -> None:
    check = InputCheck(TEXT, {"sequence": 4})
    for _ in range(2):
        check({"input_ids": ones(2, 3), "attention_mask": ones(2, 3)})
        with pytest.raises(InputError, match="sequence is 5"):
            check({"input_ids": ones(2, 5), "attention_mask": ones(2, 5)})
        with pytest.raises(InputError, match="batch differs"):
            check({"input_ids": ones(2, 3), "attention_mask": ones(3, 3)})
        with pytest.raises(InputError, match="must be int64"):
            check({"input_ids": ones(2, 3, dtype=np.float32), "attention_mask": ones(2, 3)})


@pytest.mark.parametrize("size", [31, 32, 33, 500])
def test_ids_are_looked_at_in_small_arrays_and_large_ones(size: int) -> None:
    array = ones(1, size)
    check_ids(array)
    for wrong in (10, -1):
        array[0, -1] = wrong
        with pytest.raises(InputError, match=rf"^input_ids\[0, {size - 1}\] is {wrong}, "):
            check_ids(array)
