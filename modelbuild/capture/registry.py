"""What torch's exporter has an ONNX function for.

`ONNXRegistry.from_torchlib` takes the domain of each of 540 functions from its parsed source, and makes nothing of
it: that is a third of a second of every export. The functions are the same here, the domain is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import patch

from onnxscript.function_libs.torch_lib import ops as _filled  # noqa: F401 - it fills the registry
from onnxscript.function_libs.torch_lib import registration
from torch.onnx._internal.exporter import _registration


def torchlib(opset: int) -> _registration.ONNXRegistry:
    """The registry of torch's exporter at `opset`."""
    functions = SimpleNamespace(get_torchlib_ops=lambda: list(_functions()))
    with patch.object(_registration, "onnxscript_apis", functions):
        return _registration.ONNXRegistry.from_torchlib(opset_version=opset)


def _functions() -> Iterator[SimpleNamespace]:
    for name, known in registration.default_registry.items():
        if not name.startswith("internal::"):
            for kind in (known.overloads, known.complex):
                for function in kind:
                    yield SimpleNamespace(qualified_name=name, function=function, is_complex=kind is known.complex)
