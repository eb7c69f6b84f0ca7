"""Programs that need no second trace, and those that do: either way the numbers of PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from modelbuild.capture.translate import Call, Translation, capture, translate

pytestmark = pytest.mark.slow

Forward = Callable[[torch.Tensor], torch.Tensor]


class Calls(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.computed = forward
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("scale", torch.linspace(0.1, 0.7, 6) ** 2, persistent=False)

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": self.computed(inputs["x"])}


def written(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y += 1
    return y


def attended(x: torch.Tensor) -> torch.Tensor:
    scores = torch.matmul(x, x.transpose(0, 1))
    scores += 1.5
    return scores


def split(x: torch.Tensor) -> torch.Tensor:
    y = x.reshape(-1, 2, 3).transpose(1, 2).contiguous().view(-1, 6)
    return y.flatten(0) + y.reshape(-1)


def into_itself_by_another_name(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = y.contiguous()
    z.mul_(3)
    return y


SINGLE: dict[str, Forward] = {
    "writes into a tensor of its own": written,
    "writes into a product": attended,
    "writes into itself by another name": into_itself_by_another_name,
    "views": split,
    "dropout and a detached copy": lambda x: functional.dropout(x, 0.5, training=False).detach() + 1,
    "what it gives is what it was given": lambda x: functional.dropout(x + 1, 0.5, training=False),
    "a comparison in other types": lambda x: (x > 0).to(torch.int64).to(torch.float32) * x,
    "a type that it has": lambda x: x.to(torch.float32) + 1,
    "a number less a tensor": lambda x: torch.rsub(x, 1.0),
    "whole numbers and fractions": lambda x: (x > 0).to(torch.int64) + 0.5,
    "a number less a tensor, beside other types": lambda x: torch.rsub(x, 1.0) + (x > 0).to(torch.int64),
    "the smaller of two": lambda x: torch.min(x, x * x) + torch.max(x, -x),
    "flattened in part": lambda x: x.reshape(-1, 3, 2).flatten(1) * 2,
    "flattened from behind": lambda x: x.reshape(-1, 3, 1, 2).flatten(-3, -1) * 2,
    "nothing reads a result": lambda x: (x.abs(), x + 1)[1],
}


def into_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 1:3] += 5
    return y


def into_what_is_read_again(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = y.view(-1)
    y += 1
    return z + y.view(-1)


SECOND: dict[str, Forward] = {
    "writes into a view": into_a_view,
    "writes into what is read again": into_what_is_read_again,
    "parts of a view": lambda x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1),
    "an average of places": lambda x: functional.adaptive_avg_pool1d(x, 3),
}


def translated(module: torch.nn.Module) -> Translation:
    x = torch.linspace(-1, 1, 18).reshape(3, 6)
    call = Call(tensors={"x": x}, shapes={"x": {0: torch.export.Dim("rows")}})
    return translate(capture(module, call), call, 20, ["y"])


def names_of_sizes(graph: ir.Model) -> set[str]:
    """The symbols in the shapes of all values; fusions read them."""
    values = [value for node in graph.graph for value in node.outputs]
    sizes = [size.value for value in values for size in value.shape or () if isinstance(size, ir.SymbolicDim)]
    return {name for size in sizes if size for name in re.findall(r"[a-z]\w*", size)}


def require_same_numbers(module: torch.nn.Module, graph: ir.Model, folder: Path) -> None:
    ir.save(graph, folder / "model.onnx")
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for rows in (2, 5):
        x = torch.linspace(-2, 1.5, rows * 6).reshape(rows, 6)
        (found,) = session.run(["y"], {"x": x.numpy()})
        wanted = module({"x": x.clone()})["y"].numpy()
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SINGLE)
def test_a_program_of_known_operators_is_traced_once_and_gives_the_numbers_of_pytorch(
    name: str, tmp_path: Path
) -> None:
    module = Calls(SINGLE[name]).eval()
    made = translated(module)
    assert made.retraced_for == ""
    assert names_of_sizes(made.graph) <= {"rows"}
    require_same_numbers(module, made.graph, tmp_path)


@pytest.mark.parametrize("name", SECOND)
def test_a_program_that_one_node_at_a_time_does_not_tell_is_traced_twice(name: str, tmp_path: Path) -> None:
    module = Calls(SECOND[name]).eval()
    made = translated(module)
    assert made.retraced_for
    assert names_of_sizes(made.graph) <= {"rows"}
    require_same_numbers(module, made.graph, tmp_path)


def test_what_a_composite_operator_may_have_given_back_is_not_taken_for_its_own() -> None:
    module = Calls(lambda x: functional.dropout(x * 2, 0.5, training=False).add_(1)).eval()
    assert translated(module).retraced_for == "aten.add_.Tensor"


def test_a_buffer_that_is_in_no_state_dict_is_in_the_graph_as_it_was_computed(tmp_path: Path) -> None:
    module = Calls(lambda x: x).eval()
    module.computed = lambda x: x * module.scale
    made = translated(module)
    require_same_numbers(module, made.graph, tmp_path)
    (stored,) = (value.const_value for value in made.graph.graph.initializers.values())
    assert np.array_equal(stored.numpy(), module.scale.numpy())


def test_a_buffer_that_is_written_into_is_for_a_second_trace(tmp_path: Path) -> None:
    module = Calls(lambda x: x).eval()

    def counting(x: torch.Tensor) -> torch.Tensor:
        module.seen.add_(0)
        return x + module.seen

    module.computed = counting
    made = translated(module)
    assert made.retraced_for == "aten.add_.Tensor"


def test_a_weight_that_two_layers_share_is_in_the_graph_once() -> None:
    class Tied(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(6, 6, bias=False)
            self.second = torch.nn.Linear(6, 6, bias=False)
            self.second.weight = self.first.weight

        def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"y": self.second(self.first(inputs["x"]))}

    made = translated(Tied().eval())
    assert sum(value.const_value.nbytes for value in made.graph.graph.initializers.values()) == 6 * 6 * 4


def test_the_weights_of_a_captured_program_are_those_of_the_module_and_no_copies() -> None:
    module = torch.nn.Linear(6, 6)

    class Around(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"y": self.inner(inputs["x"])}

    made = translated(Around().eval())
    stored = {name: tensor.data_ptr() for name, tensor in made.program.state_dict.items()}
    assert stored == {f"inner.{name}": tensor.data_ptr() for name, tensor in module.named_parameters()}
