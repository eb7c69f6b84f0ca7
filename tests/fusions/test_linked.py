"""A graph that shares its weights with another, for a while."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from modelbuild.fusions.linked import save_beside
from modelbuild.graph import MODEL_FILE, data_file

WEIGHTS = np.arange(900, dtype=np.float32).reshape(30, 30)


def stored(folder: Path) -> Path:
    """A graph with one weight in a file beside it."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 30]))
    w = ir.Value(name="w", const_value=ir.tensor(WEIGHTS, name="w"), shape=ir.Shape([30, 30]), type=x.type)
    node = ir.node("MatMul", [x, w])
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "y", x.type, ir.Shape(["n", 30])
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[w], opset_imports={"": 20}, name="g")
    folder.mkdir()
    ir.save(ir.Model(graph, ir_version=10), folder / MODEL_FILE, external_data=data_file(MODEL_FILE))
    return folder / MODEL_FILE


def run(model: Path) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.eye(30, dtype=np.float32)})
    return np.asarray(found)


def with_more(model: ir.Model) -> ir.Model:
    """Another weight of that size, which is in no file."""
    (node,) = model.graph
    (output,) = model.graph.outputs
    more = ir.Value(name="more", const_value=ir.tensor(WEIGHTS * 2, name="more"), type=output.type)
    model.graph.register_initializer(more)
    added = ir.node("Add", [node.outputs[0], more])
    added.outputs[0].name, added.outputs[0].type, added.outputs[0].shape = "z", output.type, output.shape
    model.graph.append(added)
    model.graph.outputs[0] = added.outputs[0]
    return model


def test_weights_stay_in_their_file_and_new_ones_have_their_own(tmp_path: Path) -> None:
    source, out = stored(tmp_path / "source"), tmp_path / "out" / MODEL_FILE
    out.parent.mkdir()
    save_beside(with_more(ir.load(source)), out)
    data = data_file(MODEL_FILE)
    assert (out.parent / data).samefile(source.parent / data)
    assert np.array_equal(run(out), WEIGHTS * 3)
    assert np.array_equal(run(source), WEIGHTS)


def test_where_there_are_no_links_weights_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("links are not supported")

    source, out = stored(tmp_path / "source"), tmp_path / "out" / MODEL_FILE
    out.parent.mkdir()
    monkeypatch.setattr(os, "link", refuse)
    save_beside(with_more(ir.load(source)), out)
    data = data_file(MODEL_FILE)
    assert not (out.parent / data).samefile(source.parent / data)
    assert np.array_equal(run(out), WEIGHTS * 3)
