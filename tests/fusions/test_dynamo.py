"""Families as dynamo exports them: every layer fused, right under every mask, and each fusion can be left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tiny_models import CONFIG, Config, export_tiny, only_component, tiny_model

from modelbuild.batches import random_batches
from modelbuild.candidates import transformer
from modelbuild.fusions import dynamo
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.masks import MASKS
from modelbuild.reference import load_reference
from modelbuild.report import read_report
from modelbuild.tasks import TASKS

pytestmark = pytest.mark.slow

_NAMES = CONFIG | {"num_hidden_layers": 2, "max_position_embeddings": 24}
_OWN_NAMES: Config = {
    "vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 24,
}  # fmt: skip
_SPECIALS = {f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))}
# Family -> its config, the attention it gets, and how many nodes there are in all.
FAMILIES: dict[str, tuple[Config, str, int]] = {
    "BertModel": (_NAMES, "com.microsoft.Attention", 18),
    "DistilBertModel": (_OWN_NAMES, "com.microsoft.Attention", 17),
    "RobertaModel": (_NAMES, "com.microsoft.Attention", 28),
    "AlbertModel": (_NAMES | {"embedding_size": 16}, "com.microsoft.Attention", 20),
    "ModernBertModel": (_NAMES | _SPECIALS, "com.microsoft.MultiHeadAttention", 106),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_a_family_is_fused_and_equals_pytorch_under_every_mask(family: str, tmp_path: Path) -> None:
    config, attention, nodes = FAMILIES[family]
    model, task, out = tiny_model(family, config), TASKS["feature-extraction"], tmp_path / "optimize"
    exported = export_tiny(model, tmp_path / "export")
    report = read_report(exported / "report.json")
    out.mkdir()
    facts = report.facts["components"]["model"]
    transformer.optimize("transformer", exported / MODEL_FILE, facts, out / MODEL_FILE)

    graph = read_graph(out / MODEL_FILE)
    assert facts["architecture"]["num_hidden_layers"] == graph.operators[attention] == 2
    assert graph.nodes <= nodes
    reference = load_reference(model, task, None)
    session = ort.InferenceSession(str(out / MODEL_FILE), providers=["CPUExecutionProvider"])
    component, masks = only_component(reference, task), tuple(MASKS)
    interface = component.interface
    for batch in random_batches(interface, batches=(1, 3), sequences=(1, 2, 9, 20), masks=masks, seed=3):
        wanted = component.run(batch.inputs)["last_hidden_state"]
        found, valid = batch.placed(task.outputs[0], np.asarray(session.run(None, batch.inputs)[0]))
        assert np.abs(wanted - found)[valid].max(initial=0) < 1e-5, batch.label


def test_each_fusion_can_be_left_out_alone_and_the_model_still_runs(exported: Path, tmp_path: Path) -> None:
    facts = read_report(exported / "report.json").facts["components"]["model"]
    operators = {}
    for name in (*dynamo.FUSIONS, "all"):
        out = tmp_path / name
        out.mkdir()
        transformer.optimize(
            "transformer",
            exported / MODEL_FILE,
            facts,
            out / MODEL_FILE,
            frozenset(dynamo.FUSIONS if name == "all" else {name}),
        )
        operators[name] = read_graph(out / MODEL_FILE).operators
    assert "com.microsoft.EmbedLayerNormalization" not in operators["embed_layer_normalization"]
    assert "com.microsoft.MultiHeadAttention" in operators["attention"]
    assert "Where" in operators["attention_mask"]
    assert "Where" not in operators["gelu"]
    assert "com.microsoft.Attention" not in operators["all"]


def test_export_counts_the_layers_of_shared_groups_as_often_as_they_run(tmp_path: Path) -> None:
    model = tiny_model("AlbertModel", _NAMES | {"embedding_size": 16, "inner_group_num": 2})
    facts = read_report(export_tiny(model, tmp_path) / "report.json").facts
    assert facts["components"]["model"]["architecture"]["num_hidden_layers"] == 4
