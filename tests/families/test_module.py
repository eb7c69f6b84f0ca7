from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
import torch
from user_modules import HEAD, component_of, source_of, write_module, write_net

from modelbuild.component import Component
from modelbuild.errors import ExportError
from modelbuild.exporters import dynamo
from modelbuild.families.module_outputs import flattened
from modelbuild.graph import read_graph
from modelbuild.interface import Axis
from modelbuild.samples import sample
from modelbuild.sizes import typical_sizes
from modelbuild.stages.export import traced_batch
from modelbuild.tasks import TASKS

LENGTHS = {"lengths": {"dtype": "int64", "shape": ["batch"], "below": 100}}


def made(folder: Path, body: str, parameters: str = "features", **settings: Any) -> Component:
    """The graph of a `Net` whose forward is `body`."""
    path = write_net(folder, f"\n    def forward(self, {parameters}):\n{indent(body, ' ' * 8)}\n")
    return component_of(source_of(path, **settings))


def shapes(component: Component) -> dict[str, tuple[Any, ...]]:
    return {output.name: output.shape for output in component.interface.outputs}


OUTPUTS = {
    "a tensor": ("return features", {"output": ("batch", "sequence", 4)}),
    "a tuple": ("return features, None, features[0, 0]", {"output_0": ("batch", "sequence", 4), "output_2": (4,)}),
    "a dict": ("return {'x': features.sum(-1)}", {"x": ("batch", "sequence")}),
    "nested": (
        "return {'x': [features.sum(1), {'deep': features}]}",
        {"x.0": ("batch", 4), "x.1.deep": ("batch", "sequence", 4)},
    ),
    "sizes that follow": (
        "return features[:, 1:], features.reshape(-1, 4), features.transpose(0, 1)",
        {
            "output_0": ("batch", "output_0_axis1", 4),
            "output_1": ("output_1_axis0", 4),
            "output_2": ("sequence", "batch", 4),
        },
    ),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_are_named_after_where_they_are_and_axes_after_what_they_follow(case: str, tmp_path: Path) -> None:
    body, expected = OUTPUTS[case]
    assert shapes(made(tmp_path, body)) == expected


ALIKE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a batch of a few": (["batch"], {"batch": {"max": 4}}),
    "a batch of two": (["batch"], {"batch": {"max": 2}}),
    "a few rows and columns": (["batch", "rows", "cols"], {"rows": {"max": 3}, "cols": {"max": 3}}),
    "another smallest size": (["a", "b", "c", "d", "e"], {"d": {"min": 7}}),
    "many axes": (list("abcdefghijk"), {}),
    "more than there are sizes for": (["a", "b", "c", "d"], {name: {"max": 2} for name in "abcd"}),
}


@pytest.mark.parametrize("case", ALIKE)
def test_axes_with_few_sizes_are_told_apart(case: str, tmp_path: Path) -> None:
    axes, bounds = ALIKE[case]
    inputs = {f"x{number}": {"dtype": "float32", "shape": [axis, 2]} for number, axis in enumerate(axes)}
    names = ", ".join(inputs)
    component = made(tmp_path, f"return {names},", names, inputs=inputs, axes=bounds)
    assert list(shapes(component).values()) == [(axis, 2) for axis in axes]


def test_rows_of_a_batch_of_at_most_two_are_seen_to_change_each_other(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="output of a row is another beside other rows than alone"):
        made(
            tmp_path, "return features - features.mean(0)", axes={"batch": {"max": 2}},
            inputs={"features": {"dtype": "float32", "shape": ["batch", 4]}},
        )  # fmt: skip


def test_outputs_of_every_container_are_found(tmp_path: Path) -> None:
    body = """\
    from collections import namedtuple
    from dataclasses import dataclass
    from transformers.modeling_outputs import BaseModelOutput
    Pair = namedtuple("Pair", ["left", "right"])
    @dataclass
    class Held:
        pair: object
        nothing: object = None
    return {"held": Held(Pair(features, features)), "hf": BaseModelOutput(last_hidden_state=features)}
    """
    found = shapes(made(tmp_path, body.replace("\n    ", "\n").lstrip()))
    assert list(found) == ["held.pair.left", "held.pair.right", "hf.last_hidden_state"]


def test_outputs_may_be_given_names(tmp_path: Path) -> None:
    assert list(shapes(made(tmp_path, "return features, features", outputs=["a", "b"]))) == ["a", "b"]
    with pytest.raises(
        ExportError, match=r"outputs has 1 names, and forward gives 2 tensors: Net: .*output_0, output_1"
    ):
        made(tmp_path, "return features, features", outputs=["a"])


@pytest.mark.parametrize(("value", "said"), [(None, "None for its output"), ({"x": "text"}, "a str for x")])
def test_what_is_no_tensor_is_refused(value: object, said: str) -> None:
    with pytest.raises(ExportError, match=f"forward gives {said}: Net: return a tensor"):
        flattened(value, (), "Net")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1)}, "a.b"),
        ({1: torch.ones(1), "1": torch.zeros(1)}, "1"),
    ],
)
def test_two_tensors_of_one_name_are_refused(value: Any, name: str) -> None:
    with pytest.raises(ExportError, match=f"forward gives two tensors that are called {name}: Net: give one"):
        flattened(value, (), "Net")


def test_inputs_are_given_by_name_or_in_order(tmp_path: Path) -> None:
    inputs = LENGTHS | {"features": {"dtype": "float32", "shape": ["batch", 4]}}
    for number, parameters in enumerate(("features, lengths, scale=2.0", "*, lengths, features", "**given", "*given")):
        both = "given = list(given.values()) if isinstance(given, dict) else given\n" if "given" in parameters else ""
        body = both + ("return given[0][:, None] * given[1]" if both else "return lengths[:, None] * features")
        component = made(tmp_path / str(number), body, parameters, inputs=inputs)
        given = {"lengths": np.array([3]), "features": np.ones((1, 4), dtype=np.float32)}
        assert component.run(given)["output"].tolist() == [[3.0] * 4]


def test_numbers_are_drawn_as_they_are_declared(tmp_path: Path) -> None:
    inputs: dict[str, dict[str, Any]] = {
        "ages": {"dtype": "int32", "shape": ["batch", 50], "between": [18, 20]},
        "shares": {"dtype": "float32", "shape": ["batch", 50], "between": [0, 1]},
        "known": {"dtype": "bool", "shape": ["batch", 50]},
        "ids": {"dtype": "int64", "shape": ["batch", 50], "below": 3},
    }
    component = made(tmp_path, "return ages * shares * known + ids", "ages, shares, known, ids", inputs=inputs)
    sizes = typical_sizes(component.interface, batch=3, length=5)
    drawn = sample(component.interface, sizes, mask="ones", rng=np.random.default_rng(0)).inputs
    assert {name: array.dtype.name for name, array in drawn.items()} == {n: v["dtype"] for n, v in inputs.items()}
    assert set(np.unique(drawn["ages"])) == {18, 19, 20}
    assert 0 <= drawn["shares"].min() < drawn["shares"].max() <= 1
    assert set(np.unique(drawn["ids"])) == {0, 1, 2}


def test_an_axis_has_the_sizes_that_were_declared(tmp_path: Path) -> None:
    component = made(
        tmp_path,
        "return torch.nn.functional.avg_pool1d(features.transpose(1, 2), 6)",
        axes={"sequence": {"min": 6, "max": 40}},
    )
    assert component.interface.axis("sequence") == Axis(name="sequence", kind="length", smallest=6, largest=40)
    dynamo.export(component, TASKS["custom"], traced_batch(component.interface), 20, None, tmp_path / "model.onnx")
    assert read_graph(tmp_path / "model.onnx").signature.outputs[0].shape == ("batch", 4, "output_axis2")


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another name": (
        "return features",
        {"inputs": {"feature": {"dtype": "float32", "shape": ["batch", 4]}}},
        r"forward of Net takes no 'feature': model\.source\.inputs: did you mean 'features'\?",
    ),
    "a shape that forward refuses": (
        "return self.linear(features)",
        {"inputs": {"features": {"dtype": "float32", "shape": ["batch", 5]}}},
        r"forward refuses features \[3, 5\] float32: RuntimeError: .* \(mine\.py line 11\): Net: correct forward",
    ),
    "a constant axis": (
        "return features + torch.ones(3, 4)",
        {},
        r"forward refuses features \[3, 5, 4\] float32: RuntimeError: The size of tensor a \(5\) must match",
    ),
    "no tensor": ("return {'x': 1.5}", {}, r"forward gives a float for x: Net"),
    "NaN": ("return features.log()", {}, r"output is NaN for inputs drawn as they are declared: Net: .* between:"),
    "dropout": (
        "return nn.functional.dropout(features, 0.5, training=True)",
        {},
        r"forward gives another output each time it is run: Net: it is in eval mode: .*dropout",
    ),
    "random numbers": (
        "return {'x': features + torch.rand(1)}",
        {},
        r"forward gives another x each time it is run: Net",
    ),
    "memory": (
        "self.count = getattr(self, 'count', 0) + 1\nreturn features * self.count",
        {},
        r"forward gives another output each time",
    ),
    "rows that are mixed": (
        "return nn.functional.batch_norm(features.transpose(1, 2), None, None, training=True)",
        {},
        r"output of a row is another beside other rows than alone: Net: .*call the axis rows and not batch",
    ),
    "outputs that come and go": (
        "return {'x': features} | ({'y': features} if features.shape[1] > 6 else {})",
        {},
        r"forward gives x, and at other sizes x, y: Net",
    ),
    "complex numbers": ("return torch.fft.fft(features)", {}, r"output is complex64: Net: give float32"),
    "the network": (
        "import urllib.request\nurllib.request.urlopen('http://weights.invalid')\nreturn features",
        {},
        r"forward refuses features .*: (URLError|OSError): .* \(mine\.py line \d+\): Net",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_module_that_is_no_graph_is_refused_before_it_is_exported(case: str, tmp_path: Path) -> None:
    body, settings, message = REFUSED[case]
    with pytest.raises(ExportError, match=message) as caught:
        made(tmp_path, body, **settings)
    assert "\n" not in str(caught.value)


def test_an_input_that_is_not_declared_is_missed(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"forward of Net also needs lengths: model\.source\.inputs: declare it"):
        made(tmp_path, "return features", "features, lengths")


def test_rows_that_know_of_each_other_may_be_an_axis_of_another_name(tmp_path: Path) -> None:
    inputs = {"features": {"dtype": "float32", "shape": ["rows", 4]}}
    component = made(tmp_path, "return features - features.mean(0)", inputs=inputs)
    assert shapes(component) == {"output": ("rows", 4)}


GRU = """
class Gru(Net):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)

    def forward(self, x, h0):
        return self.gru(x, h0)
"""


def test_rows_may_be_on_a_later_axis(tmp_path: Path) -> None:
    shapes_of_inputs: dict[str, list[int | str]] = {"x": ["batch", "sequence", 8], "h0": [1, "batch", 16]}
    inputs = {name: {"dtype": "float32", "shape": shape} for name, shape in shapes_of_inputs.items()}
    source = source_of(write_module(tmp_path, HEAD + GRU), factory="Gru", inputs=inputs)
    assert shapes(component_of(source)) == {"output_0": ("batch", "sequence", 16), "output_1": (1, "batch", 16)}


def test_rows_on_a_later_axis_are_seen_to_change_each_other(tmp_path: Path) -> None:
    inputs = {"features": {"dtype": "float32", "shape": [2, "batch", 4]}}
    with pytest.raises(ExportError, match="output of a row is another beside other rows than alone"):
        made(tmp_path, "return features - features.mean(1, keepdim=True)", inputs=inputs)


@pytest.mark.slow
def test_a_branch_on_more_rows_than_there_may_be_is_none(tmp_path: Path) -> None:
    body = "return self.linear(features) if features.shape[0] > 8 else features"
    component = made(tmp_path, body, axes={"batch": {"max": 8}})
    dynamo.export(component, TASKS["custom"], traced_batch(component.interface), 20, None, tmp_path / "model.onnx")
    component = made(tmp_path, body, axes={"batch": {"max": 9}})
    with pytest.raises(ExportError, match="the model branches on batch: what was exported holds for"):
        dynamo.export(component, TASKS["custom"], traced_batch(component.interface), 20, None, tmp_path / "other.onnx")


EXPORTS = {
    "values decide": (
        "return self.linear(features) if features.abs().max() > 1e9 else features",
        r"forward branches on what is in its inputs, which a graph cannot: Net \(mine\.py line 11\): .*torch\.where",
    ),
    "a size decides": (
        "return self.linear(features) if features.shape[1] > 4 else features",
        r"the model branches on sequence: what was exported holds for 5 and more only: Net",
    ),
    "a loop": (
        "for i in range(features.shape[1]):\n    features = features + features[:, i : i + 1]\nreturn features",
        r"sequence was taken for the constant 7: Net: .*loop",
    ),
    "no operator": ("return torch.linalg.svd(features).S", r"ONNX has no operator for aten\._linalg_svd: Net"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EXPORTS)
def test_what_torch_cannot_export_is_said_by_its_cause(case: str, tmp_path: Path) -> None:
    body, message = EXPORTS[case]
    component = made(tmp_path, body)
    with pytest.raises(ExportError, match=message):
        dynamo.export(component, TASKS["custom"], traced_batch(component.interface), 20, None, tmp_path / "model.onnx")


def test_a_file_may_have_several_modules(tmp_path: Path) -> None:
    other = "\nclass Other(Net):\n    def forward(self, features):\n        return features, features\n"
    path = write_module(tmp_path, HEAD + other)
    assert list(shapes(component_of(source_of(path, factory="Other")))) == ["output_0", "output_1"]
