"""A module as an ONNX graph, by torch's exporter, step by step.

The steps are those of `torch.onnx.export(dynamo=True)`, whose second trace is left out where the first will do
(`functional`). That way is private to torch, whose version is pinned; every other program goes the public one.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import version_converter
from onnxscript.optimizer import optimize
from torch.onnx._internal.exporter import _capture_strategies, _core, _flags, _fx_passes
from torch.onnx._internal.exporter._decomp import get_onnx_implemented_overloads
from torch.onnx._internal.exporter._ir_passes import rename_axis, rename_inputs, rename_outputs
from torch.onnx._internal.exporter._registration import ONNXRegistry
from torch.onnx._internal.fx.passes import type_promotion

from modelbuild.capture.functional import make_functional
from modelbuild.capture.registry import torchlib
from modelbuild.quick_rules import only_where_they_match

# What PyTorch takes Python's numbers for beside tensors.
_TYPES = {float: torch.float32, int: torch.int64, bool: torch.bool}


@dataclass(frozen=True, kw_only=True)
class Call:
    """How a module is called to be captured: its inputs by name, in order, with the symbolic sizes of each."""

    tensors: Mapping[str, torch.Tensor]
    shapes: Mapping[str, Mapping[int, Any]]


@dataclass(frozen=True, kw_only=True)
class Translation:
    """An ONNX graph, the program that it was made of, and the operator for which that was traced twice, if it was."""

    graph: ir.Model
    program: torch.export.ExportedProgram
    retraced_for: str = ""


def import_tracing() -> None:
    """Import what torch.export imports when it first traces. It takes a second."""
    importlib.import_module("torch.export._trace")


def capture(module: torch.nn.Module, call: Call) -> torch.export.ExportedProgram:
    """`module` as a program, by the first of torch's ways that can. Raises what the first raised where none can."""
    failed = []
    for strategy in _capture_strategies.CAPTURE_STRATEGIES:
        result = _flags.set_onnx_exporting_flag(strategy(verbose=False))(
            module, (), {"inputs": dict(call.tensors)}, dynamic_shapes={"inputs": dict(call.shapes)}
        )
        if result.exported_program is not None:
            return result.exported_program
        failed.append(result.exception)
    raise failed[0]


@only_where_they_match()
def translate(program: torch.export.ExportedProgram, call: Call, opset: int, outputs: Sequence[str]) -> Translation:
    """`program`, which was captured by `call`, as an ONNX graph at `opset`: its inputs and their symbolic sizes are
    called as there, its outputs as given. Raises torch's errors.
    """
    registry = torchlib(opset)
    hard = make_functional(program.graph, set(get_onnx_implemented_overloads(registry)))
    if hard:
        made = torch.onnx.export(program, (), opset_version=opset, verbose=False)
        graph, program = made.model, made.exported_program
    else:
        graph = _translated_once(program, registry, opset)
    rename_inputs(graph, list(call.tensors))
    rename_outputs(graph, outputs)
    rename_axis(graph, _names_of_sizes(graph, call))
    return Translation(graph=graph, program=program, retraced_for=hard)


def _translated_once(program: torch.export.ExportedProgram, registry: ONNXRegistry, opset: int) -> ir.Model:
    """The graph of a program that needs no decompositions, after the steps that torch's exporter takes from there."""
    if _mixes_types(program.graph):
        _fx_passes.insert_type_promotion_nodes(program.graph_module)
    graph = _core._exported_program_to_onnx_program(program, registry=registry).model
    version_converter.convert_version(graph, target_version=opset, fallback=True)
    optimize(graph)
    return graph


def _names_of_sizes(graph: ir.Model, call: Call) -> dict[str, str]:
    """The names that the symbolic sizes of inputs have in `call`, by those that torch gave them."""
    names: dict[str, str] = {}
    for value in graph.graph.inputs:
        for place, size in call.shapes[value.name].items():
            found = value.shape[place]
            if isinstance(size, torch.export.Dim) and isinstance(found, ir.SymbolicDim) and found.value:
                names.setdefault(found.value, size.__name__)
    return names


def _mixes_types(graph: torch.fx.Graph) -> bool:
    """Whether an operator is given types that PyTorch converts by itself, and ONNX does not."""
    table = type_promotion.TypePromotionTable()
    rules = ((node, type_promotion.get_type_promotion_rule(node, table)) for node in graph.nodes)
    return any(rule and _is_promoted(node, rule) for node, rule in rules)


def _is_promoted(node: torch.fx.Node, rule: Any) -> bool:
    args = torch.fx.node.map_arg(node.args, lambda given: given.meta["val"])
    kwargs = torch.fx.node.map_arg(node.kwargs, lambda given: given.meta["val"])
    wanted = rule.preview_type_promotion(args, kwargs)
    return any(_differs(given, wanted.args_dtypes.get(place)) for place, given in enumerate(args)) or any(
        _differs(given, wanted.kwargs_dtypes.get(name)) for name, given in kwargs.items()
    )


def _differs(given: Any, wanted: torch.dtype | None) -> bool:
    if wanted is None:
        return False
    if isinstance(given, list | tuple):
        return any(_differs(item, wanted) for item in given)
    if isinstance(given, torch.Tensor):
        return bool(given.dtype != wanted)
    return bool(_TYPES.get(type(given)) != wanted)
