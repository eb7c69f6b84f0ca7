from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from modelbuild.signature import Signature, TensorSpec, signature_from_dict, signature_to_dict

IDS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))
PIXELS = TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 224, 224))
SCALAR = TensorSpec(name="loss", dtype="float32", shape=())
SIGNATURE = Signature(inputs=(IDS, PIXELS), outputs=(SCALAR,))


def test_symbolic_axes_are_those_without_a_fixed_size() -> None:
    assert IDS.symbolic_axes() == {"batch", "sequence"}
    assert PIXELS.symbolic_axes() == {"batch"}
    assert SCALAR.symbolic_axes() == frozenset()


def test_names_are_in_the_order_of_the_graph() -> None:
    assert SIGNATURE.input_names() == ("input_ids", "pixel_values")
    assert SIGNATURE.output_names() == ("loss",)


def test_a_signature_survives_json() -> None:
    assert signature_from_dict(json.loads(json.dumps(signature_to_dict(SIGNATURE)))) == SIGNATURE


def test_the_json_has_what_a_reader_needs() -> None:
    assert signature_to_dict(SIGNATURE)["inputs"][0] == {
        "name": "input_ids",
        "dtype": "int64",
        "shape": ["batch", "sequence"],
    }


@pytest.mark.parametrize(
    "data",
    [{}, {"inputs": []}, {"inputs": [{"name": "x"}], "outputs": []}, {"inputs": None, "outputs": []}, [], None],
)
def test_something_else_is_a_key_error_or_a_type_error(data: Any) -> None:
    with pytest.raises((KeyError, TypeError)):
        signature_from_dict(data)


def test_a_signature_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        IDS.name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        SIGNATURE.inputs = ()  # type: ignore[misc]


def test_signatures_with_another_order_differ() -> None:
    assert Signature(inputs=(PIXELS, IDS), outputs=(SCALAR,)) != SIGNATURE
