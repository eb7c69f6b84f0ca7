"""One graph of a model, as it is before it is a graph: a PyTorch module with tensors by name on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modelbuild.errors import ExportError
from modelbuild.interface import Interface

Arrays = Mapping[str, npt.NDArray[Any]]
Outputs = dict[str, npt.NDArray[Any]]
Tensors = dict[str, torch.Tensor]


class Named(torch.nn.Module):  # type: ignore[misc]  # torch gives its classes no types
    """A model whose forward takes tensors by name and gives tensors by name, as a graph does."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> Tensors:
        """The outputs of the graph by name, in its order, for its inputs by name."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Component:
    """One graph of a model.

    `name` is what reports call it, `file` where it is in the package (`unet/model.onnx`). `module` computes it in
    PyTorch. `attention_layers` is how many layers with attention it has, None where nobody says. `unused_weights` are
    prefixes of the model's parameters that no output depends on. `branches` are sizes of axes from which on PyTorch is
    known to go another way to the same numbers (`{"batch": 64}`); validation runs them.
    """

    name: str
    file: str
    module: Named
    interface: Interface
    attention_layers: int | None = None
    unused_weights: tuple[str, ...] = field(default=())
    branches: Mapping[str, int] = field(default_factory=dict)

    def run(self, inputs: Arrays) -> Outputs:
        """The outputs by name for `inputs`, in eager mode without gradients, in the precision of the module."""
        return run_module(self.module, inputs)


def run_module(module: Named, inputs: Arrays) -> Outputs:
    """The outputs of `module` by name. Floating inputs, and what it makes on the way without saying in which precision,
    are taken to the precision of its parameters.
    """
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    with torch.inference_mode(), _default_dtype(dtype):
        return {name: np.asarray(value) for name, value in module(cast).items()}


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What the code of a model makes without saying in which precision, such as CLIP's mask, is of this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def pick(result: Mapping[str, Any], names: Sequence[str], model: torch.nn.Module) -> Tensors:
    """The outputs `names` of what a transformers model gave. Raises ExportError when it lacks one."""
    absent = [name for name in names if result.get(name) is None]
    if absent:
        raise ExportError(
            f"the model has no output {', '.join(absent)}",
            where=type(model).__name__,
            hint=f"it has {', '.join(map(str, result))}",
        )
    return {name: result[name] for name in names}


class OneCall(Named):
    """A transformers model that is called once, with what the graph takes, and gives the outputs of its task."""

    def __init__(self, model: torch.nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__(model)
        self.outputs = outputs

    def forward(self, inputs: Tensors) -> Tensors:
        """The outputs of the task."""
        return pick(self.model(**inputs, return_dict=True), self.outputs, self.model)
