"""Saving a graph that shares its weights with another for a while, without a copy of them."""

from __future__ import annotations

import os
from pathlib import Path

import onnx_ir as ir
from onnx_ir.external_data import convert_tensors_to_external

from modelbuild.graph import data_file


def save_beside(graph: ir.Model, out: Path) -> None:
    """Save `graph` as `out`. Weights that are in files already stay there, under a second name (a hard link) beside
    `out`; where the file system has no links, they are copied.

    It is for what is read and thrown away: who writes into the second file writes into the first.
    """
    values = list(graph.graph.initializers.values())
    stored = [value.const_value for value in values if isinstance(value.const_value, ir.ExternalTensor)]
    files = {str(tensor.location): Path(tensor.path) for tensor in stored}
    try:
        _link(files, out.parent)
    except OSError:
        ir.save(graph, out, external_data=data_file(out.name))
        return
    fresh = [value for value in values if _is_large(value.const_value)]
    tensors = convert_tensors_to_external([value.const_value for value in fresh], out.parent, f"{out.name}.new")
    for value, tensor in zip(fresh, tensors, strict=True):
        value.const_value = tensor
    ir.save(graph, out)


def _link(files: dict[str, Path], folder: Path) -> None:
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.resolve(), target)


def _is_large(tensor: object) -> bool:
    return isinstance(tensor, ir.TensorProtocol) and not isinstance(tensor, ir.ExternalTensor) and tensor.nbytes > 1024
