"""Everything that both sides compute on the way: the outputs of PyTorch's modules, and the tensors of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from modelbuild.component import Named, run_module
from modelbuild.runtime.custom_ops import register
from modelbuild.samples import Batch

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ModuleOutput:
    """What one PyTorch module gave: its path in the model (`encoder.layer.0.attention.self`), its class, its first
    tensor.
    """

    path: str
    class_name: str
    value: Array


def module_outputs(module: Named, batch: Batch) -> list[ModuleOutput]:
    """The output of every module of the model in `module` for `batch`, in the order in which they end: the inner ones
    first.
    """
    found: list[ModuleOutput] = []
    with _watched(module.model, found):
        run_module(module, batch.inputs)
    return found


@contextmanager
def _watched(model: torch.nn.Module, found: list[ModuleOutput]) -> Iterator[None]:
    def remember(path: str) -> Any:
        def hook(module: torch.nn.Module, inputs: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) and output else output
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                value = tensor.detach().numpy().copy()
                found.append(ModuleOutput(path=path, class_name=type(module).__name__, value=value))

        return hook

    hooks = [module.register_forward_hook(remember(path)) for path, module in model.named_modules() if path]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class OpenGraph:
    """An ONNX file with every tensor inside it as an output, run as it is in the file, on the CPU."""

    def __init__(self, model: Path | onnx.ModelProto, folder: Path, custom_ops: Sequence[str] = ()) -> None:
        self.proto = onnx.load(model, load_external_data=False) if isinstance(model, Path) else model
        self.producers = {name: node for node in self.proto.graph.node for name in node.output if name}
        opened = onnx.ModelProto()
        opened.CopyFrom(self.proto)
        known = {value.name for value in opened.graph.output}
        opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.producers if name not in known)
        self._session = session_of(opened, folder, custom_ops)
        self._names = [value.name for value in self._session.get_outputs()]

    def tensors(self, batch: Batch) -> dict[str, Array]:
        """Every floating tensor of the graph for `batch`, by name, in the order of the nodes that make them."""
        values: Mapping[str, Array] = dict(zip(self._names, self._session.run(self._names, batch.inputs), strict=True))
        return {
            name: values[name]
            for name in self.producers
            if isinstance(values[name], np.ndarray) and np.issubdtype(values[name].dtype, np.floating)
        }


def session_of(proto: onnx.ModelProto, folder: Path, custom_ops: Sequence[str] = ()) -> ort.InferenceSession:
    """A session on `proto` as it is, nothing optimized; its weights are in files in `folder`, its own operators in the
    libraries `custom_ops`.
    """
    options = ort.SessionOptions()
    register(options, custom_ops)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
