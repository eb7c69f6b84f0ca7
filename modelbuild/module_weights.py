"""The weights of a user's own module, from a file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

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
    wanted = model.state_dict()
    tied = {wanted[name].data_ptr() for name in wanted.keys() & stored.keys()}  # saved under one of their names
    missing = sorted(name for name in wanted.keys() - stored.keys() if wanted[name].data_ptr() not in tied)
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
    model.load_state_dict(stored, strict=False)  # what is missing is tied to what is not
