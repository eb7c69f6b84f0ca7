"""The registry has what torch's own has."""

from __future__ import annotations

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from modelbuild.capture.registry import torchlib

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("opset", [18, 23])
def test_it_has_the_functions_of_torchs_own(opset: int) -> None:
    ours, theirs = torchlib(opset), ONNXRegistry.from_torchlib(opset_version=opset)
    assert len(ours.functions) > 400
    assert list(ours.functions) == list(theirs.functions)
    for name, wanted in theirs.functions.items():
        found = ours.functions[name]
        assert [_said(meta) for meta in found] == [_said(meta) for meta in wanted], name


def _said(meta: object) -> tuple[object, ...]:
    names = ("onnx_function", "fx_target", "signature", "is_custom", "is_complex", "opset_introduced", "device")
    return tuple(getattr(meta, name) for name in names)
