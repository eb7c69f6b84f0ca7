"""config.json against graph, tokenizer and original: every fault has a name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_classifier import SIZES, edit, failed, init_model, labelled, make_subject, save_classifier, save_model
from tiny_tokenizers import WORDS, save_bpe, save_wordpiece

from modelbuild.checks import sidecar
from modelbuild.checks.sidecar import has_tokenizer
from modelbuild.checks.subject import Subject
from modelbuild.signature import Signature
from modelbuild.tasks import TASKS, TaskName

CONFIG_CHECKS = {
    "config present", "config architecture", "config model type", "config dimensions", "config tokens", "config labels",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A classifier of three classes. Not to be changed."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sidecar")
    save_classifier(source)
    return make_subject(source, out)


@pytest.fixture
def subject(made: Subject, tmp_path: Path) -> Subject:
    """The same, with a copy of its sidecar files, to be changed."""
    shutil.copytree(made.sidecar, tmp_path / "sidecar")
    return replace(made, sidecar=tmp_path / "sidecar")


def _faults(subject: Subject) -> dict[str, str]:
    return failed(list(sidecar.examine(subject)))


def _with(subject: Subject, **changes: Any) -> dict[str, str]:
    edit(subject.sidecar / "config.json", **changes)
    return _faults(subject)


def test_the_files_that_the_stage_made_pass_every_check(made: Subject) -> None:
    checks = list(sidecar.examine(made))
    assert {check.name for check in checks} == CONFIG_CHECKS
    assert not failed(checks)
    assert not any(check.where for check in checks)


def test_there_are_no_checks_where_no_sidecar_was_asked_for(tmp_path: Path) -> None:
    subject = make_subject(init_model(), tmp_path, kind="off")
    assert not list(sidecar.examine(subject))
    assert not has_tokenizer(subject)


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.family == "text"])
def test_a_model_from_no_files_passes_for_every_task(task: TaskName, tmp_path: Path) -> None:
    assert not _faults(make_subject(init_model(), tmp_path, task))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (None, "config.json is missing"),
        ("", "config.json: Expecting value: line 1 column 1"),
        ('{"model_type": "bert"', "config.json: Expecting ',' delimiter: line 1 column 22"),
        ("[1]", "config.json is [1], no object"),
        ("\x00", "config.json: Expecting value"),
    ],
)
def test_a_config_that_is_not_there_or_no_object_is_one_fault(text: str | None, where: str, subject: Subject) -> None:
    path = subject.sidecar / "config.json"
    path.unlink() if text is None else path.write_text(text)
    faults = _faults(subject)
    assert faults.keys() == {"config present"}
    assert where in faults["config present"]


@pytest.mark.parametrize(
    ("architectures", "where"),
    [
        (["BertForMaskedLM"], "architectures: BertForMaskedLM is not for text-classification, the original is a Bert"),
        (["RobertaForSequenceClassification"], "RobertaForSequenceClassification, the original is a BertForSeq"),
        (["Foo"], "Foo is no class of transformers, the original is a BertForSequenceClassification"),
        (["BertForSequenceClassification", "BertModel"], "BertModel is not for text-classification"),
        (["pipeline"], "pipeline is no class of transformers"),
        ([], "architectures: [], the original"),
        (..., "architectures: missing, the original"),
        (3, "architectures: 3, the original"),
        ([3], "architectures: [3], the original"),
        ("BertForSequenceClassification", 'architectures: "BertForSequenceClassification", the original'),
        ({"a": 1}, 'architectures: {"a": 1}'),
    ],
)
def test_another_architecture_is_found(architectures: Any, where: str, subject: Subject) -> None:
    faults = _with(subject, architectures=architectures)
    assert faults.keys() == {"config architecture"}
    assert f"config.json {where}" in faults["config architecture"] or where in faults["config architecture"]


@pytest.mark.parametrize(
    ("model_type", "where"),
    [(..., "missing"), ("roberta", '"roberta"'), ("", '""'), (3, "3"), (["bert"], '["bert"]'), (None, "null")],
)
def test_another_model_type_is_found(model_type: Any, where: str, subject: Subject) -> None:
    faults = _with(subject, model_type=model_type)
    assert faults.keys() == {"config model type"}
    assert faults["config model type"] == f'config.json model_type: {where}, the original\'s is "bert"'


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"hidden_size": 16}, "config.json hidden_size: 16, the original's is 8"),
        ({"hidden_size": 7}, "hidden_size: 7 is not divisible by num_attention_heads 2"),
        ({"num_attention_heads": 0}, "8 is not divisible by num_attention_heads 0"),
        ({"num_attention_heads": 4}, "num_attention_heads: 4, the original's is 2"),
        ({"num_hidden_layers": 2}, "num_hidden_layers: 2, the original's is 1"),
        ({"vocab_size": 65}, "vocab_size: 65, the original's is 64"),
        ({"vocab_size": "64"}, 'vocab_size: "64", the original\'s is 64'),
        ({"vocab_size": None}, "vocab_size: null, the original's is 64"),
        ({"vocab_size": [64]}, "vocab_size: [64], the original's is 64"),
        ({"max_position_embeddings": 512}, "max_position_embeddings: 512, the original's is 16"),
        ({"max_position_embeddings": ...}, "max_position_embeddings: missing, the original's is 16"),
        ({"type_vocab_size": 1}, "type_vocab_size: 1, the original's is 2"),
        ({"num_hidden_layers": True}, "num_hidden_layers: true, the original's is 1"),
        ({"hidden_act": "relu"}, 'hidden_act: "relu", the original\'s is "gelu"'),
        ({"hidden_act": ...}, "hidden_act: missing"),
    ],
)
def test_another_dimension_is_found(changes: dict[str, Any], where: str, subject: Subject) -> None:
    faults = _with(subject, **changes)
    assert faults.keys() == {"config dimensions"}
    assert where in faults["config dimensions"]


def _widened(subject: Subject, task: TaskName) -> Subject:
    signature = subject.graph.signature
    outputs = tuple(replace(tensor, shape=(*tensor.shape[:-1], 70)) for tensor in signature.outputs)
    graph = replace(subject.graph, signature=Signature(inputs=signature.inputs, outputs=outputs))
    return replace(subject, graph=graph, task=TASKS[task])


@pytest.mark.parametrize(
    ("task", "name", "where"),
    [
        ("feature-extraction", "config dimensions", "hidden_size: 8, the graph's last_hidden_state has 70 columns"),
        ("fill-mask", "config dimensions", "vocab_size: 64, the graph's logits has 70 columns"),
        ("text-classification", "config labels", "num_labels: 2, the graph has 70 classes"),
        ("token-classification", "config labels", "id2label: 2 labels, the graph has 70 classes"),
    ],
)
def test_a_graph_of_another_width_is_found(task: TaskName, name: str, where: str, tmp_path: Path) -> None:
    faults = _faults(_widened(make_subject(init_model(), tmp_path, task), task))
    assert faults.keys() == {name}
    assert where in faults[name]


@pytest.mark.parametrize(
    ("kind", "settings", "change", "where"),
    [
        ("GPT2", {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}, {"n_embd": 12}, "n_embd: 12, the orig"),
        ("GPT2", {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}, {"n_positions": ...}, "n_positions: mis"),
        ("GPT2", {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}, {"hidden_size": 12}, "hidden_size: 12"),
        ("GPT2", {"n_embd": 8, "n_head": 2, "n_layer": 1}, {"activation_function": "relu"}, 'activation_function: "r'),
        ("DistilBert", {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8}, {"dim": 6}, "dim: 6, the original's"),
        (
            "DistilBert",
            {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8},
            {"n_layers": ...},
            "n_layers: missing",
        ),
        (
            "DistilBert",
            {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8},
            {"activation": "x"},
            'activation: "x"',
        ),
    ],
)
def test_each_family_has_its_own_names(
    kind: str, settings: dict[str, Any], change: dict[str, Any], where: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    tokens: dict[str, Any] = {"bos_token_id": 59, "eos_token_id": 59} if kind == "GPT2" else {}
    save_model(source, kind, "Model", vocab_size=64, **settings, **tokens)
    save_bpe(source) if kind == "GPT2" else save_wordpiece(source)
    subject = make_subject(source, out, "feature-extraction")
    assert not _faults(subject)
    faults = _with(subject, **change)
    assert faults.keys() == {"config dimensions"}
    assert where in faults["config dimensions"]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"id2label": ...}, "id2label: missing, the graph has 3 classes"),
        ({"label2id": ...}, "label2id: missing"),
        ({"num_labels": ...}, "num_labels: missing"),
        ({"num_labels": 2}, "num_labels: 2, the graph has 3 classes"),
        ({"num_labels": "3"}, 'num_labels: "3"'),
        (
            {"id2label": {"0": "sad", "1": "so so"}},
            "id2label: 2 labels, the graph has 3 classes; config.json id2label: 2",
        ),
        ({"id2label": {"0": "sad", "1": "so so", "3": "glad"}}, "id2label: 2 is missing"),
        ({"id2label": {"a": "sad", "1": "so so", "2": "glad"}}, 'id2label "a": no number from 0 to 2'),
        ({"id2label": ["sad", "so so", "glad"]}, 'id2label: ["sad", "so so", "glad"] is no object'),
        ({"id2label": None}, "id2label: null is no object"),
        ({"id2label": {"0": ["sad"], "1": 3, "2": None}}, 'id2label 0: ["sad"], the original\'s is "sad"'),
        ({"label2id": {"sad": 0, "so so": 2, "glad": 1}}, 'label2id "so so": 2, id2label says "1"'),
        ({"label2id": {"sad": 0, "so so": 1, "glad": 2, "x": 3}}, 'label2id "x": no label of id2label'),
        ({"label2id": {"sad": "0", "so so": [], "glad": {}}}, 'label2id "so so": [], id2label says "1"'),
        ({"label2id": 3}, "label2id: 3 is no object"),
        (json.loads(json.dumps(labelled(("glad", "so so", "sad")))), 'id2label 0: "glad", the original\'s is "sad"'),
        ({"id2label": {"0": "sad", "1": "sad", "2": "glad"}}, 'id2label 1: "sad", the original\'s is "so so"'),
    ],
)
def test_labels_that_are_not_the_originals_are_found(changes: dict[str, Any], where: str, subject: Subject) -> None:
    faults = _with(subject, **changes)
    assert faults.keys() == {"config labels"}
    assert f"config.json {where}" in faults["config labels"]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"pad_token_id": 5}, "pad_token_id: 5, the original's is 0"),
        ({"pad_token_id": 5}, "config.json pad_token_id: 5, the tokenizer's is 0 ([PAD])"),
        ({"pad_token_id": 64}, "pad_token_id: 64 is not in the vocabulary of 64"),
        ({"pad_token_id": -1}, "pad_token_id: -1 is not in the vocabulary"),
        ({"pad_token_id": "0"}, 'pad_token_id: "0", the original\'s is 0'),
        ({"pad_token_id": {}}, "pad_token_id: {}, the original's is 0"),
        ({"pad_token_id": None}, "pad_token_id: missing, and a batch of texts cannot be classified without it"),
        ({"pad_token_id": ...}, "pad_token_id: missing, the original's is 0"),
        ({"sep_token_id": 4}, "sep_token_id: 4, the tokenizer's is 3 ([SEP])"),
        ({"cls_token_id": [1, 99]}, "cls_token_id: 99 is not in the vocabulary"),
        ({"bos_token_id": 1}, "bos_token_id: 1, the original's is null"),
    ],
)  # fmt: skip
def test_special_tokens_that_are_not_the_originals_are_found(
    changes: dict[str, Any], where: str, subject: Subject
) -> None:
    faults = _with(subject, **changes)
    assert faults.keys() == {"config tokens"}
    assert where in faults["config tokens"]


def test_a_config_and_a_tokenizer_that_disagree_in_the_original_too_are_the_original(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    save_model(source, **SIZES, **labelled(), pad_token_id=1)
    save_wordpiece(source)
    subject = make_subject(source, out)
    assert not _faults(subject)
    edit(out / "tokenizer_config.json", pad_token="[MASK]")
    edit(out / "special_tokens_map.json", pad_token="[MASK]")
    assert "pad_token_id: 1, the tokenizer's is 4 ([MASK])" in _faults(subject)["config tokens"]


def test_an_id_that_no_vocabulary_has_is_no_fault_where_the_original_says_the_same(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    save_model(source, **SIZES, **labelled(), pad_token_id=-1)
    save_wordpiece(source)
    subject = make_subject(source, out)
    assert not _faults(subject)
    assert "pad_token_id: -2 is not in the vocabulary of 64" in _with(subject, pad_token_id=-2)["config tokens"]


def test_a_decoder_that_has_no_padding_token_classifies_no_batches(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    sizes: dict[str, Any] = {"vocab_size": 64, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}
    save_model(source, "GPT2", **sizes, **labelled(), bos_token_id=59, eos_token_id=59)
    save_bpe(source)
    faults = _faults(make_subject(source, out))
    assert faults.keys() == {"config tokens"}
    assert "pad_token_id: missing, and a batch" in faults["config tokens"]


def test_only_the_first_faults_are_told_and_the_others_counted(subject: Subject) -> None:
    changes = dict.fromkeys(SIZES.keys() - {"intermediate_size"}, 1000)
    assert _with(subject, **changes)["config dimensions"].endswith("; and 1 more")


def _truncate(path: Path) -> None:
    path.write_text(path.read_text()[:900])


def _grow(path: Path) -> None:
    save_wordpiece(path.parent, [*WORDS, "harbour"])


def _unsettle(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"unk_token": "[UNK]"', '"unk_token": "[NONE]"'), encoding="utf-8")


@pytest.mark.parametrize("break_it", [_grow, _unsettle])
def test_a_tokenizer_that_makes_nothing_for_the_model_is_none_to_use(
    break_it: Callable[[Path], None], subject: Subject
) -> None:
    break_it(subject.sidecar / "tokenizer.json")
    assert not has_tokenizer(subject)


@pytest.mark.parametrize("break_it", [_truncate, Path.unlink])
def test_a_tokenizer_that_does_not_open_is_none_to_use(break_it: Callable[[Path], None], subject: Subject) -> None:
    assert has_tokenizer(subject)
    break_it(subject.sidecar / "tokenizer.json")
    (subject.sidecar / "vocab.txt").unlink()
    assert not has_tokenizer(subject)
    assert not _faults(subject)
