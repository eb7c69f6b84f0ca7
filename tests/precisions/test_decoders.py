"""A decoder with a cache in every precision: all of its linear layers, the head too, and its positions in fp32."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from precisions.linear_graphs import operators
from tiny_models import tiny_model

from modelbuild.candidates import ort_level
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.precision_spec import HalfPrecision, Int8Precision, Precision, WeightsPrecision
from modelbuild.precisions import PRECISIONS, Reducer
from modelbuild.spec import Opset
from modelbuild.stage_spec import ExportSpec
from modelbuild.stages import export

LLAMA: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
BLOCKS: dict[str, Any] = {"block_size": 32, "accuracy_level": 4, "max_fp32_layers": 0, "min_cosine": 0, "min_top_1": 0}
CASES: tuple[tuple[Precision, float], ...] = (
    (HalfPrecision(kind="fp16", min_cosine=0, min_top_1=0), 0.9999),
    (Int8Precision(kind="int8_static", max_fp32_layers=0, min_cosine=0, min_top_1=0), 0.98),
    (WeightsPrecision(kind="int8_weights", **BLOCKS), 0.999),
    (WeightsPrecision(kind="int4", **BLOCKS), 0.97),
)


def _inputs(seed: int) -> dict[str, Any]:
    """Two texts of five tokens after three that are in the cache."""
    rng = np.random.default_rng(seed)
    cache = {
        f"past_key_values.{layer}.{part}": rng.standard_normal((2, 2, 3, 8)).astype(np.float32)
        for layer in range(2)
        for part in ("key", "value")
    }
    positions = np.tile(np.arange(3, 8), (2, 1))
    return cache | {
        "input_ids": rng.integers(0, 128, (2, 5)),
        "attention_mask": np.ones((2, 8), np.int64),
        "position_ids": positions,
    }


def _logits(model: Path, inputs: dict[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {value.name: inputs[value.name] for value in session.get_inputs()})[0]


@pytest.mark.slow
def test_a_decoder_is_reduced_with_its_head_and_stays_near(tmp_path: Path) -> None:
    spec = ExportSpec(
        model=tiny_model("LlamaForCausalLM", LLAMA),
        task="text-generation",
        opset=Opset(version=20),
        exporter=PytorchExporter(kind="dynamo"),
    )
    export.run(spec, {}, tmp_path)
    source = tmp_path / "optimized" / MODEL_FILE
    source.parent.mkdir()
    ort_level.optimize("extended", tmp_path / MODEL_FILE, {}, source)
    wanted = _logits(source, _inputs(9))
    for precision, least in CASES:
        reducer = cast(Reducer, importlib.import_module(PRECISIONS[precision.kind]))
        assert len(reducer.layers(source, precision)) == 15
        out = tmp_path / precision.kind / MODEL_FILE
        out.parent.mkdir()
        reducer.reduce(source, out, precision, calibration=[_inputs(seed) for seed in range(6)])
        assert read_graph(out).signature == read_graph(source).signature
        found = _logits(out, _inputs(9))
        sizes = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(found, axis=-1)
        assert ((wanted * found).sum(axis=-1) / sizes).min() > least, precision.kind
    assert operators(out).count("MatMulNBits") == 15
    half = onnx.load(tmp_path / "fp16" / MODEL_FILE, load_external_data=False)
    kinds = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    waves = [node for node in half.graph.node if node.op_type in ("Sin", "Cos")]
    assert waves
    assert all(kinds[name] == onnx.TensorProto.FLOAT for node in waves for name in (*node.input, *node.output))
