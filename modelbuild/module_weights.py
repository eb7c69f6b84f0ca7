"""The weights of a user's own module, from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn.parameter import is_lazy

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError, first_line, listed
from modelbuild.suggest import closest

_SHOWN = 4


def require_unchanged(path: Path, expected: str) -> None:
    """Raise ExportError unless the file still has the content of that sha256."""
    if not path.is_file() or sha256_file(path) != expected:
        raise ExportError(f"{path.name} changed while it was being built", where=str(path), hint="run the build again")


def fill(model: torch.nn.Module, expected: str, weights: Path | None) -> None:
    """Load the weights of a safetensors file, whose sha256 is `expected`: every one, and no other.

    Raises ExportError when they do not fit.
    """
    if weights is None:
        raise ExportError("the file of the module's weights is not known", hint="run the build again")
    require_unchanged(weights, expected)
    try:
        stored = load_file(weights)
    except Exception as error:
        raise ExportError(
            f"not a safetensors file: {first_line(error)}", where=str(weights), hint="save it with save_file"
        ) from error
    # What get_extra_state gives may be anything, and is in no file of tensors.
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    tied = _tied(model)
    missing = sorted(name for name in wanted.keys() - stored.keys() if not stored.keys() & tied.get(name, ()))
    other = sorted(stored.keys() - wanted.keys())
    faults = [f"no {listed(missing, _SHOWN)}"] if missing else []
    faults += [f"{listed(other, _SHOWN)}, which {type(model).__name__} has no place for"] if other else []
    if faults:
        near = closest(missing[0], other) if missing else None
        raise ExportError(
            f"the weights do not fit {type(model).__name__}: there is {' and '.join(faults)}",
            where=str(weights),
            hint=f"{missing[0]} may be what is called {near} there"
            if near
            else "save model.state_dict() of this module",
        )
    wrong = [name for name in wanted.keys() & stored.keys() if wanted[name].shape != stored[name].shape]
    if wrong:
        said = [f"{n} has shape {tuple(stored[n].shape)} and not {tuple(wanted[n].shape)}" for n in sorted(wrong)]
        raise ExportError(
            f"the weights do not fit {type(model).__name__}: {listed(said, _SHOWN)}",
            where=str(weights),
            hint="correct model.source.arguments",
        )
    _require_one_value(tied, stored, weights)
    model.load_state_dict(stored, strict=False)  # what is missing is tied to what is not


def require_values(model: torch.nn.Module, where: str) -> None:
    """Raise ExportError for parameters and buffers that were made without values."""
    empty = [name for name, tensor in _tensors(model) if tensor.is_meta or is_lazy(tensor)]
    if empty:
        raise ExportError(
            f"{listed(empty, _SHOWN)} of {type(model).__name__} {'has' if len(empty) == 1 else 'have'} no values: "
            "made on the device 'meta', or lazily",
            where=where,
            hint="make the module on the CPU, with all its sizes",
        )


def _tensors(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Every parameter and buffer, under each of its names."""
    parameters = model.named_parameters(remove_duplicate=False)
    return [*parameters, *model.named_buffers(remove_duplicate=False)]


def _tied(model: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """All names of the tensor of each name."""
    names: dict[int, tuple[str, ...]] = {}
    for name, tensor in _tensors(model):
        names[id(tensor)] = (*names.get(id(tensor), ()), name)
    return {name: names[id(tensor)] for name, tensor in _tensors(model)}


def _require_one_value(tied: Mapping[str, tuple[str, ...]], stored: Mapping[str, torch.Tensor], weights: Path) -> None:
    for name, names in tied.items():
        first = next((other for other in names if other in stored), name)
        if name in stored and name != first and not torch.equal(stored[name].double(), stored[first].double()):
            raise ExportError(
                f"{first} and {name} are one tensor of the module, and the file has other values for each",
                where=str(weights),
                hint="save model.state_dict() of this module",
            )
