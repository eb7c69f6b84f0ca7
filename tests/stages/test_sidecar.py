"""sidecar: the files beside the weights, from the same folder, checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.spec import Sidecar
from modelbuild.stage_spec import FolderFiles, SidecarSpec, StageModel
from modelbuild.stages import sidecar
from modelbuild.tasks import TaskName

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 8,
    "max_position_embeddings": 16,
}


def _run(
    tmp_path: Path, config: dict[str, Any], task: TaskName = "feature-extraction", **files: str
) -> tuple[Path, list[str]]:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, text in files.items():
        (source / name.replace("__", ".")).write_text(text, encoding="utf-8")
    digests = {path.name: sha256_file(path) for path in source.iterdir()}
    model = StageModel(source=FolderFiles(kind="folder", files=digests))
    report = sidecar.run(SidecarSpec(model=model, task=task, sidecar=Sidecar(kind="auto")), {"source": source}, out)
    return out, report.facts["files"]


def test_files_are_copied_and_the_config_names_the_exported_architecture(tmp_path: Path) -> None:
    out, files = _run(tmp_path, BERT | {"_name_or_path": "/home/me/bert"}, "fill-mask", vocab__txt="[PAD]\n[UNK]\n")
    assert files == ["config.json", "vocab.txt"]
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForMaskedLM"]
    assert "_name_or_path" not in config


def test_no_tokenizer_is_an_error_that_says_how_to_do_without(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no tokenizer files.*or sidecar=off"):
        _run(tmp_path, BERT)


@pytest.mark.parametrize("settings", [{"model_max_length": 10**30}, {"model_max_length": None}, {}])
def test_a_model_max_length_that_means_none_becomes_the_number_of_positions(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    out, _ = _run(tmp_path, BERT, vocab__txt="[PAD]\n", tokenizer_config__json=json.dumps(settings))
    assert json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"] == 16


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id2label": {"0": "no", "2": "yes"}}, "id2label must have the keys 0 to 1"),
        ({"id2label": {"no": "0", "yes": "1"}}, "id2label must have the keys 0 to 1"),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 1, "yes": 0}}, "not the inverse"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(labels: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        _run(tmp_path, BERT | labels, "text-classification", vocab__txt="[PAD]\n")


def test_a_file_that_changed_since_it_was_read_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    model = StageModel(source=FolderFiles(kind="folder", files={"config.json": "0" * 64}))
    spec = SidecarSpec(model=model, task="fill-mask", sidecar=Sidecar(kind="auto"))
    with pytest.raises(ExportError, match="changed while it was being built"):
        sidecar.run(spec, {"source": source}, tmp_path)


def test_off_writes_nothing(tmp_path: Path) -> None:
    model = StageModel(source=FolderFiles(kind="folder", files={}))
    report = sidecar.run(SidecarSpec(model=model, task="fill-mask", sidecar=Sidecar(kind="off")), {}, tmp_path)
    assert report.facts["status"] == "off"
    assert list(tmp_path.iterdir()) == []
