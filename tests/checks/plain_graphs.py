"""Graphs written by hand with a PyTorch module beside each, as a check looks at them: no export, no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from modelbuild.checks.runs import Runs
from modelbuild.checks.subject import Subject
from modelbuild.component import Component, Named, Tensors
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.interface import Interface
from modelbuild.model_spec import InitSource
from modelbuild.precision_spec import Fp32Precision
from modelbuild.spec import Opset, Providers, Session, Validation
from modelbuild.stage_spec import StageModel, ValidateSpec
from modelbuild.tasks import TASKS


class _Plain(Named):
    def __init__(self, forward: Callable[[Tensors], Tensors]) -> None:
        super().__init__(torch.nn.Module())
        self._computes = forward

    def forward(self, inputs: Tensors) -> Tensors:
        return self._computes(inputs)


def plain_runs(
    folder: Path,
    interface: Interface,
    forward: Callable[[Tensors], Tensors],
    nodes: Sequence[onnx.NodeProto],
    *,
    weights: Mapping[str, Any] | None = None,
    limits: Mapping[str, int] | None = None,
    **validation: Any,
) -> Runs:
    """Both sides: `forward`, and the graph of `nodes` with its `weights`. `limits` ship, by default the interface's."""
    graph = helper.make_graph(
        list(nodes),
        "plain",
        [_declared(value.name, value.dtype, value.shape) for value in interface.inputs],
        [_declared(value.name, value.dtype, value.shape) for value in interface.outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / MODEL_FILE)
    component = Component(name="model", file=MODEL_FILE, module=_Plain(forward).eval(), interface=interface)
    spec = ValidateSpec(
        model=StageModel(source=InitSource(kind="init", architecture="Plain")),
        task="feature-extraction",
        opset=Opset(version=18),
        precision=Fp32Precision(kind="fp32"),
        providers=Providers(order=("cpu",)),
        session=Session(),
        validation=Validation(kind="strict", **validation),
    )
    subject = Subject(
        spec=spec,
        task=TASKS["feature-extraction"],
        model_file=folder / MODEL_FILE,
        exported_file=folder / MODEL_FILE,
        exported_facts={},
        graph=read_graph(folder / MODEL_FILE),
        sidecar=folder,
        source=None,
        reference=component.module,
        component=component,
        limits=interface.limits() if limits is None else limits,
    )
    return Runs(subject)


def _declared(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
