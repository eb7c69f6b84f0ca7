"""Reading quantized tensors out of a graph: every layout that is made here or by ONNX Runtime, and faults in each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from precisions.linear_graphs import DOWN, DOWN_BIAS, INPUTS, UP, UP_BIAS, graph_file, some, tensors, two_layers

from modelbuild.checks.quantized_weights import quantized_tensors
from modelbuild.checks.weights import graph_tensors
from modelbuild.graph import MODEL_FILE
from modelbuild.node_tags import Tag, write_tag
from modelbuild.precision_spec import Int8Precision, WeightsPrecision
from modelbuild.precisions import int8, int8_static, weights
from modelbuild.tagging import restore_tags
from modelbuild.weights.account import account_for
from modelbuild.weights.entries import Account

ORIGINALS = {"up.weight": UP.T.copy(), "up.bias": UP_BIAS, "down.weight": DOWN, "down.bias": DOWN_BIAS}
OWNED = {name: frozenset({f"{name}.weight"}) for name in ("up", "down")}
Make = Callable[[Path, Path], Path]


def _blocks(source: Path, out: Path, kind: Any) -> Path:
    precision = WeightsPrecision(
        kind=kind, block_size=16, accuracy_level=0, max_fp32_layers=0, min_cosine=0, min_top_1=0
    )
    weights.reduce(source, out, precision)
    return out


def _static(source: Path, out: Path) -> Path:
    precision = Int8Precision(kind="int8_static", max_fp32_layers=0, min_cosine=0, min_top_1=0)
    int8_static.reduce(source, out, precision, calibration=[some(30)])
    return out


def _by_rows(source: Path, out: Path, *, smoothed: bool) -> Path:
    precision = Int8Precision(kind="int8", max_fp32_layers=0, min_cosine=0, min_top_1=0)
    # One channel is far larger than the others, so that there is something to smooth.
    inputs = some(30)["x"] * np.where(np.arange(INPUTS) == 7, 100, 1).astype(np.float32)
    int8.reduce(source, out, precision, calibration=[{"x": inputs}] if smoothed else [])
    assert smoothed == any("smoothing" in name for name in tensors(out))
    return out


def _dynamic(source: Path, out: Path, *, per_channel: bool, kind: Any, fused: bool) -> Path:
    """As ONNX Runtime's quantize_dynamic makes it, which takes a Gemm apart; and as a session then has it."""
    logging.disable(logging.WARNING)  # it speaks of preprocessing
    try:
        quantize_dynamic(
            source, out, per_channel=per_channel, weight_type=kind, extra_options={"MatMulConstBOnly": True}
        )
    finally:
        logging.disable(logging.NOTSET)
    return _saved(out) if fused else out


def _saved(model: Path) -> Path:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(model.parent / "saved.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return model.parent / "saved.onnx"


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [some(20)]

    def get_next(self) -> Any:
        return self.left.pop() if self.left else None


def _qdq(source: Path, out: Path, *, form: Any) -> Path:
    logging.disable(logging.WARNING)
    try:
        quantize_static(source, out, _Reader(), quant_format=form, per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    return out


LAYOUTS: dict[str, Make] = {
    "8 bits in blocks": partial(_blocks, kind="int8_weights"),
    "4 bits in blocks": partial(_blocks, kind="int4"),
    "static": _static,
    "rows": partial(_by_rows, smoothed=False),
    "rows, smoothed": partial(_by_rows, smoothed=True),
    "dynamic": partial(_dynamic, per_channel=True, kind=QuantType.QInt8, fused=False),
    "dynamic, one scale": partial(_dynamic, per_channel=False, kind=QuantType.QUInt8, fused=False),
    "dynamic, fused": partial(_dynamic, per_channel=True, kind=QuantType.QInt8, fused=True),
    "QDQ": partial(_qdq, form=QuantFormat.QDQ),
    "operators": partial(_qdq, form=QuantFormat.QOperator),
}


def _made(layout: str, folder: Path) -> Path:
    (folder / "out").mkdir()
    return LAYOUTS[layout](two_layers(folder), folder / "out" / MODEL_FILE)


def _account(model: Path) -> Account:
    return account_for(graph_tensors(model), ORIGINALS, quantized=tuple(quantized_tensors(model, OWNED)))


def _matrices(account: Account) -> dict[str, str]:
    return {entry.originals[0]: entry.relation for entry in account.entries if entry.originals and len(entry.shape) > 1}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_matrix_is_accounted_for(layout: str, tmp_path: Path) -> None:
    account = _account(_made(layout, tmp_path))
    assert _matrices(account) == {"up.weight": "quantized", "down.weight": "quantized"}
    assert not {"up.weight", "down.weight"} & {name for original in account.absent for name in original.names}
    assert all(len(entry.shape) < 2 for entry in account.unaccounted())


def test_matrices_belong_to_the_modules_that_tags_name(tmp_path: Path) -> None:
    found = tuple(quantized_tensors(_made("4 bits in blocks", tmp_path), OWNED))
    assert [item.belongs for item in found] == [OWNED["up"], OWNED["down"]]
    assert [item.shape for item in found] == [UP.shape, DOWN.T.shape]


def _edit(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change tensors of a file by name."""
    proto = onnx.load(model)
    values = {item.name: numpy_helper.to_array(item).copy() for item in proto.graph.initializer}
    change(values)
    for item in proto.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(values[item.name], item.name))
    onnx.save(proto, model)


def _parts(model: Path) -> dict[str, dict[str, str]]:
    """The names of the numbers and scales of each original."""
    named = {entry.name: entry.originals[0] for entry in _account(model).entries if entry.relation == "quantized"}
    sizes = tensors(model)
    return {
        named[item.name]: {
            "numbers": item.name,
            "scale": next(name for name in sorted(item.parts) if sizes[name].dtype == np.float32),
        }
        for item in quantized_tensors(model, {})
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_number_that_is_off_by_two_steps_is_found(layout: str, tmp_path: Path) -> None:
    model = _made(layout, tmp_path)
    numbers = _parts(model)["up.weight"]["numbers"]

    def off(values: dict[str, Any]) -> None:
        flat = values[numbers].reshape(-1)
        flat[50] ^= 2  # in 4 bits too, that of the lower half

    _edit(model, off)
    wrong = [entry for entry in _account(model).entries if entry.faulty]
    assert [(entry.name, entry.faulty) for entry in wrong] == [(numbers, 1)]
    assert wrong[0].where.startswith("up.weight[")
    assert " in PyTorch and " in wrong[0].where


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wrong_scale_is_found(layout: str, tmp_path: Path) -> None:
    model = _made(layout, tmp_path)
    scale = _parts(model)["down.weight"]["scale"]

    def double(values: dict[str, Any]) -> None:
        values[scale] = np.where(np.arange(values[scale].size).reshape(values[scale].shape) == 0, 2, 1).astype(
            np.float32
        ) * np.asarray(values[scale])

    _edit(model, double)
    (wrong,) = [entry for entry in _account(model).entries if entry.faulty]
    assert wrong.relation == "changed"
    assert wrong.where.startswith("down.weight[")


@pytest.mark.parametrize("layout", ["8 bits in blocks", "4 bits in blocks", "static", "dynamic"])
def test_two_layers_that_are_swapped_are_found(layout: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    originals = {f"{name}.weight": rng.standard_normal((INPUTS, INPUTS)).astype(np.float32) for name in ("one", "two")}
    nodes = [
        helper.make_node("MatMul", ["x", "one.weight"], ["inner"], name="first"),
        helper.make_node("MatMul", ["inner", "two.weight"], ["y"], name="second"),
    ]
    for node, module in zip(nodes, ("one", "two"), strict=True):
        write_tag(node, Tag(scopes=("", module)))
    source = graph_file(tmp_path, nodes, originals, outputs={"y": ["batch", INPUTS]})
    (tmp_path / "out").mkdir()
    model = LAYOUTS[layout](source, tmp_path / "out" / MODEL_FILE)
    if layout == "dynamic":
        restore_tags(model, source)
    owned = {name: frozenset({f"{name}.weight"}) for name in ("one", "two")}

    def account() -> Account:
        return account_for(graph_tensors(model), originals, quantized=tuple(quantized_tensors(model, owned)))

    assert [entry.relation for entry in account().entries] == ["quantized", "quantized"]
    pairs = [sorted(item.parts) for item in quantized_tensors(model, owned)]

    def swap(values: dict[str, Any]) -> None:
        for one, two in zip(*pairs, strict=True):
            values[one], values[two] = values[two], values[one]
        if smooth := [name for name in values if name.endswith("/smoothing")]:
            values[smooth[0]], values[smooth[1]] = values[smooth[1]], values[smooth[0]]

    _edit(model, swap)
    assert [entry.where for entry in account().entries if entry.faulty] == [
        "two.weight is in the place of one.weight",
        "one.weight is in the place of two.weight",
    ]
