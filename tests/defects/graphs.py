"""Changing an ONNX file: the tensors in it, and the nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from tiny_models import WEIGHTS_FILE

from modelbuild.graph import MODEL_FILE

Array = npt.NDArray[Any]


class Graph:
    """An ONNX model that is being changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = model.graph.node

    def tensor(self, name: str) -> onnx.TensorProto:
        """The initializer of this name, or the one whose name ends so."""
        ending = [item for item in self.model.graph.initializer if item.name.endswith(name)]
        found = [item for item in ending if item.name == name] or ending
        assert len(found) == 1, f"{name}: {[item.name for item in found]}"
        return found[0]

    def weights(self, *shape: int) -> list[str]:
        """The names of the initializers of this shape, in the order in which nodes first use them."""
        of_shape = {item.name for item in self.model.graph.initializer if tuple(item.dims) == shape}
        used = [name for node in self.nodes for name in node.input if name in of_shape]
        return list(dict.fromkeys(used))

    def change(self, name: str, change: Callable[[Array], Array | None]) -> None:
        """Replace a tensor by what `change` makes of it, or by what it left of its copy."""
        tensor = self.tensor(name)
        values = numpy_helper.to_array(tensor).copy()
        changed = change(values)
        tensor.CopyFrom(numpy_helper.from_array(values if changed is None else changed, tensor.name))

    def read(self, name: str) -> Array:
        """The values of a tensor."""
        return np.asarray(numpy_helper.to_array(self.tensor(name)))

    def ops(self, op_type: str) -> list[onnx.NodeProto]:
        """The nodes of a type, in order."""
        return [node for node in self.nodes if node.op_type == op_type]

    def producer(self, value: str) -> onnx.NodeProto:
        """The node that gives `value`."""
        return next(node for node in self.nodes if value in node.output)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """The name of a new initializer."""
        name = f"planted_{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def rewire(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`."""
        for node in self.nodes:
            node.input[:] = [new if name == old else name for name in node.input]

    def after(self, value: str, *steps: tuple[str, dict[str, Any], list[str]]) -> None:
        """Put `steps`, each a type with attributes and further inputs, between `value` and all who read it.

        A graph input is changed for all its readers; an output of the graph keeps its name.
        """
        position = next((i + 1 for i, node in enumerate(self.nodes) if value in node.output), 0)
        source, final = value, f"{value}_planted"
        if value in {output.name for output in self.model.graph.output}:
            source, final = f"{value}_before", value
            producer = self.nodes[position - 1]
            producer.output[:] = [source if name == value else name for name in producer.output]
            self.rewire(value, value)
        else:
            self.rewire(value, final)
        for number, (op_type, attributes, further) in enumerate(steps):
            target = final if number == len(steps) - 1 else f"{value}_step_{number}"
            node = helper.make_node(op_type, [source, *further], [target], **attributes)
            self.nodes.insert(position + number, node)
            source = target

    def before(self, node: onnx.NodeProto, index: int, op_type: str, *further: str, **attributes: Any) -> None:
        """Put a node between input `index` of `node` and what it reads there."""
        position = list(self.nodes).index(node)
        value = node.input[index]
        target = f"{value}_before_{node.name or node.output[0]}"
        node.input[index] = target
        self.nodes.insert(position, helper.make_node(op_type, [value, *further], [target], **attributes))


@contextmanager
def edited(folder: Path) -> Iterator[Graph]:
    """The model in `folder`, saved again with its weights inside it when the block is left."""
    model = onnx.load(folder / MODEL_FILE)
    yield Graph(model)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    onnx.save(model, folder / MODEL_FILE)
