"""A package as small as it can be: token embeddings, zero where the mask is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelbuild.graph import read_graph
from modelbuild.manifest import GraphRecord, Manifest, write_manifest
from modelbuild.package_files import record_files

EMBEDDINGS = np.arange(40, dtype=np.float32).reshape(10, 4) / 8


@pytest.fixture
def embeddings() -> np.ndarray:
    """The weights of the model, `(10, 4)`."""
    return EMBEDDINGS


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """The model: `input_ids` and `attention_mask`, `(batch, sequence)`, to `states`, `(batch, sequence, 4)`."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", "sequence", 4])
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["states"]),
    ]
    weights = [numpy_helper.from_array(EMBEDDINGS, "embeddings"), numpy_helper.from_array(np.array([-1]), "last")]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], weights)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.fixture
def package(model_file: Path, tmp_path: Path) -> Path:
    """The folder of a package with that model, as the package stage writes it."""
    folder = tmp_path / "package"
    folder.mkdir()
    shutil.copy(model_file, folder)
    (folder / "config.json").write_text("{}")
    ids, mask = np.array([[1, 2, 3], [9, 0, 0]]), np.array([[1, 1, 1], [1, 0, 0]])
    golden: dict[str, Any] = {
        "model/input.input_ids": ids,
        "model/input.attention_mask": mask,
        "model/output.states": EMBEDDINGS[ids] * mask[..., None],
    }
    np.savez(folder / "golden.npz", **golden)
    graph = read_graph(model_file)
    manifest = Manifest(
        name="tiny",
        task="feature-extraction",
        verified=True,
        graphs={
            "model": GraphRecord(
                file="model.onnx",
                signature=graph.signature,
                limits={"sequence": 8},
                may_be_empty=(),
                sums={},
                opsets=graph.opsets,
                ir_version=graph.ir_version,
                oldest_onnxruntime=graph.oldest_onnxruntime(),
                hierarchy={},
                batch="batch",
            )
        },
        providers=(("cpu", {}),),
        allow_fallback=False,
        session={"intra_op_num_threads": 1},
        source={},
        build={},
        tools={},
        validation={},
        benchmark={},
        files=record_files(folder),
    )
    write_manifest(manifest, folder)
    return folder
