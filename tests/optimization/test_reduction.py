"""A precision in the optimize stage: what it says of itself, what it keeps in fp32, and on what it was measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CONFIG, export_tiny, tiny_model
from tiny_tokenizers import WORDS, save_wordpiece

from modelbuild.digest import sha256_file
from modelbuild.errors import OptimizeError
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.precision_spec import Int8Precision, WeightsPrecision
from modelbuild.spec import Optimization
from modelbuild.stage_spec import OptimizeSpec, Texts
from modelbuild.stages import optimize

pytestmark = pytest.mark.slow

EVERY_LINEAR_LAYER = 6


def int8(**changes: Any) -> Int8Precision:
    values = {"kind": "int8", "min_cosine": 0.9, "min_top_1": 0.9, "max_fp32_layers": 2} | changes
    return Int8Precision.model_validate(values)


def reduced(
    exported: Path, out: Path, precision: Int8Precision | WeightsPrecision, kind: str = "transformer", **inputs: Any
) -> dict[str, Any]:
    spec = OptimizeSpec(
        optimization=Optimization.model_validate({"kind": kind}), precision=precision, texts=inputs.pop("texts", None)
    )
    report = optimize.run(spec, {"export": exported, **inputs}, out)
    assert report.facts["precision"] == precision.kind
    found: dict[str, Any] = report.facts["components"]["model"]
    return found


def test_all_linear_layers_are_quantized_for_attention_is_left_without_them(exported: Path, tmp_path: Path) -> None:
    found = reduced(exported, tmp_path, int8())
    assert found["optimization"] == "multi_head_attention"
    assert found["operators"]["com.microsoft.MatMulIntegerToFloat"] == EVERY_LINEAR_LAYER
    assert found["precision"]["layers"] == EVERY_LINEAR_LAYER
    assert found["precision"]["kept_fp32"] == []
    assert found["precision"]["met"] is True
    assert found["precision"]["accuracy"]["last_hidden_state"]["worst_cosine"] > 0.99
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]


def test_layers_stay_in_fp32_where_the_limit_is_not_met_and_no_more_than_may(exported: Path, tmp_path: Path) -> None:
    found = reduced(exported, tmp_path, int8(min_cosine=1.0, max_fp32_layers=2))
    kept = found["precision"]["kept_fp32"]
    assert len(kept) <= 2
    assert found["precision"]["met"] is False
    operators = Counter(read_graph(tmp_path / MODEL_FILE).operators)
    assert operators["com.microsoft.MatMulIntegerToFloat"] == EVERY_LINEAR_LAYER - len(kept)


def test_weights_in_blocks_are_made_of_any_kind_of_optimization(exported: Path, tmp_path: Path) -> None:
    precision = WeightsPrecision(
        kind="int4", block_size=16, accuracy_level=4, max_fp32_layers=0, min_cosine=0.5, min_top_1=0.5
    )
    found = reduced(exported, tmp_path, precision, kind="extended")
    assert found["operators"]["com.microsoft.MatMulNBits"] == EVERY_LINEAR_LAYER


@pytest.fixture(scope="module")
def with_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An export, and the folder of a tokenizer whose ids the model has."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_wordpiece(folder)
    exported = export_tiny(
        tiny_model("BertModel", CONFIG | {"vocab_size": len(WORDS)}), tmp_path_factory.mktemp("with_text")
    )
    return exported, folder


def texts_of(folder: Path) -> Texts:
    return Texts(files={path.name: sha256_file(path) for path in folder.iterdir()}, tokenizer_folder="")


def test_real_text_is_what_it_is_measured_on_where_there_is_a_tokenizer(
    with_tokenizer: tuple[Path, Path], tmp_path: Path
) -> None:
    exported, folder = with_tokenizer
    found = reduced(exported, tmp_path, int8(), texts=texts_of(folder), source=folder)
    assert found["precision"]["rows"] == 100


def test_a_tokenizer_that_changed_meanwhile_is_refused(with_tokenizer: tuple[Path, Path], tmp_path: Path) -> None:
    exported, folder = with_tokenizer
    texts = texts_of(folder)
    other = texts.model_copy(update={"files": dict.fromkeys(texts.files, "0" * 64)})
    with pytest.raises(OptimizeError, match="changed while it was being built"):
        reduced(exported, tmp_path, int8(), texts=other, source=folder)
