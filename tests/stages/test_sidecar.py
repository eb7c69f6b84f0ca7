"""sidecar: the files beside the weights, from the same folder, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import WORDS, save_wordpiece

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.golden_text import golden_text, read_golden_text
from modelbuild.spec import Sidecar
from modelbuild.stage_spec import FolderFiles, SidecarSpec, StageModel
from modelbuild.stages import sidecar
from modelbuild.tasks import TaskName

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 64,
    "max_position_embeddings": 16,
}


def _run(
    tmp_path: Path,
    config: dict[str, Any],
    task: TaskName = "feature-extraction",
    *,
    tokenizer: bool = True,
    **files: str,
) -> tuple[Path, Mapping[str, Any]]:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tokenizer:
        save_wordpiece(source)
    for name, text in files.items():
        (source / name.replace("__", ".")).write_text(text, encoding="utf-8")
    digests = {path.name: sha256_file(path) for path in source.iterdir()}
    model = StageModel(source=FolderFiles(kind="folder", files=digests))
    report = sidecar.run(SidecarSpec(model=model, task=task, sidecar=Sidecar(kind="auto")), {"source": source}, out)
    return out, report.facts


def test_files_are_copied_and_the_config_names_the_exported_architecture(tmp_path: Path) -> None:
    local = {"_name_or_path": "/home/me/bert"}
    out, facts = _run(tmp_path, BERT | local | {"parts": [local | {"depth": 1}]}, "fill-mask", modules__json="[]")
    copied = ["modules.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert facts["files"] == ["config.json", "golden_text.json", *copied]
    assert facts["tokenizer"] is True
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForMaskedLM"]
    assert "_name_or_path" not in config
    assert config["parts"] == [{"depth": 1}]


def test_fields_that_everyone_goes_by_are_in_the_config_though_they_are_the_defaults(tmp_path: Path) -> None:
    out, facts = _run(tmp_path, BERT)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (config["hidden_size"], config["type_vocab_size"], config["hidden_act"]) == (768, 2, "gelu")
    assert config["pad_token_id"] == 0
    assert facts["set"].keys() == {
        "hidden_act", "hidden_size", "num_attention_heads", "num_hidden_layers", "pad_token_id", "type_vocab_size",
        "tokenizer_config.json model_max_length",
    }  # fmt: skip


@pytest.mark.parametrize("sizes", [{"dim": 48}, {"hidden_size": 48}])
def test_a_family_s_own_names_stay_its_own(sizes: dict[str, Any], tmp_path: Path) -> None:
    given = {"model_type": "distilbert", "vocab_size": 64, "max_position_embeddings": 16, "n_heads": 4} | sizes
    out, _ = _run(tmp_path, given)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert {key: config[key] for key in sizes} == sizes
    assert (config["n_heads"], config["n_layers"], config["activation"]) == (4, 6, "gelu")
    assert "num_hidden_layers" not in config
    assert "hidden_act" not in config


def test_labels_that_the_original_does_not_name_are_called_as_transformers_calls_them(tmp_path: Path) -> None:
    out, facts = _run(tmp_path, BERT | {"num_labels": 3}, "token-classification")
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert config["label2id"] == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert config["num_labels"] == 3
    assert facts["set"]["id2label"] == config["id2label"]


def test_golden_texts_are_what_the_original_s_tokenizer_makes_of_them(tmp_path: Path) -> None:
    out, _ = _run(tmp_path, BERT)
    golden = read_golden_text(out)
    assert golden == golden_text(tmp_path / "source", max_length=16) == golden_text(out, max_length=16)
    assert max(len(encoded.ids) for encoded in golden.texts) == 16
    assert golden.padding_side == "right"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer__json": '{"version'}, r"the tokenizer cannot be read: tokenizer\.json: Unterminated string"),
        ({"tokenizer_config__json": "{"}, r"the tokenizer cannot be read: tokenizer_config\.json: Expecting"),
        ({"tokenizer_config__json": "[3]"}, "the tokenizer cannot be read: "),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_one_line(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        _run(tmp_path, BERT, **files)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": 3}, "model_type must be a text"),
        ({"model_type": ["bert"]}, "model_type must be a text"),
        ({"vocab_size": "x"}, "the sizes of the model cannot be told"),
        ({"max_position_embeddings": []}, "the sizes of the model cannot be told"),
        ({"label2id": 3, "id2label": {"0": "a"}}, "BertConfig refuses it"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        _run(tmp_path, BERT | change)


SETTINGS = {"tokenizer_class": "BertTokenizer"}


@pytest.mark.parametrize(
    "length", [{}, *({"model_max_length": value} for value in (10**30, 1e30, None, "x", True, 17))]
)
def test_a_model_max_length_that_means_none_or_too_many_becomes_the_number_of_positions(
    length: dict[str, Any], tmp_path: Path
) -> None:
    out, facts = _run(tmp_path, BERT, tokenizer_config__json=json.dumps(SETTINGS | length))
    assert json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"] == 16
    assert facts["set"]["tokenizer_config.json model_max_length"] == 16


def test_a_model_max_length_that_the_model_can_take_stays(tmp_path: Path) -> None:
    out, facts = _run(tmp_path, BERT, tokenizer_config__json=json.dumps(SETTINGS | {"model_max_length": 8}))
    assert json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8")) == SETTINGS | {"model_max_length": 8}
    assert "tokenizer_config.json model_max_length" not in facts["set"]


@pytest.mark.parametrize("length", [{}, {"model_max_length": 10**30}, {"model_max_length": 4096}])
def test_a_model_that_takes_any_number_of_tokens_has_its_tokenizer_left_alone(
    length: dict[str, Any], tmp_path: Path
) -> None:
    free = BERT | {"max_position_embeddings": 0}
    out, facts = _run(tmp_path, free, tokenizer_config__json=json.dumps(SETTINGS | length))
    assert json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8")) == SETTINGS | length
    assert "tokenizer_config.json model_max_length" not in facts["set"]


def test_a_tokenizer_without_settings_gets_those_that_it_needs(tmp_path: Path) -> None:
    out, _ = _run(tmp_path, BERT, tokenizer=False, vocab__txt="\n".join(WORDS))
    assert json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8")) == {"model_max_length": 16}
    assert golden_text(out, max_length=16) == read_golden_text(out)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id2label": {"0": "no", "2": "yes"}}, "id2label must have the keys 0 to 1"),
        ({"id2label": {"no": "0", "yes": "1"}}, "id2label must have the keys 0 to 1"),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 1, "yes": 0}}, "not the inverse"),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": ["no", "yes"]}, "not the inverse"),
        ({"id2label": {"0": "no", "1": "no"}}, "id2label has the same label twice"),
        ({"id2label": {"0": "no", "1": "yes"}, "num_labels": 3}, "num_labels is 3, and id2label has 2 labels"),
        ({"id2label": ["no", "yes"]}, r'id2label must map 0, 1, … to labels, and is \["no", "yes"\]'),
        ({"id2label": {"0": None}}, "id2label must map"),
        ({"num_labels": "x"}, 'num_labels must be a number of labels, and is "x"'),
        ({"num_labels": 0}, "num_labels must be a number of labels, and is 0"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(labels: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        _run(tmp_path, BERT | labels, "text-classification")


def test_a_file_that_changed_since_it_was_read_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    model = StageModel(source=FolderFiles(kind="folder", files={"config.json": "0" * 64}))
    spec = SidecarSpec(model=model, task="fill-mask", sidecar=Sidecar(kind="auto"))
    with pytest.raises(ExportError, match="changed while it was being built"):
        sidecar.run(spec, {"source": source}, tmp_path)
