"""ONNX Runtime's fusions: which can be switched off, and that the mask stays as it is."""

from __future__ import annotations

import pytest
from onnxruntime.transformers.fusion_options import AttentionMaskFormat

from modelbuild.fusions import torchscript


@pytest.mark.parametrize("name", torchscript.FUSIONS)
def test_a_fusion_that_is_left_out_is_one_that_onnxruntime_knows_and_does_by_default(name: str) -> None:
    assert getattr(torchscript.fusion_options(frozenset()), f"enable_{name}") is True
    assert getattr(torchscript.fusion_options(frozenset({name})), f"enable_{name}") is False


def test_the_mask_is_not_turned_into_lengths() -> None:
    assert torchscript.fusion_options(frozenset()).attention_mask_format == AttentionMaskFormat.AttentionMask


def test_names_of_other_optimizers_switch_nothing_off() -> None:
    assert vars(torchscript.fusion_options(frozenset({"GeluFusionL2"}))) == vars(
        torchscript.fusion_options(frozenset())
    )
