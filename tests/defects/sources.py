"""Defects in the model's own files, which must be found before or in export."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import transformers
from defects.defect import Defect
from defects.models import Build
from safetensors.torch import load_file, save_file

_SOURCE = "found before there is a graph"
_WEIGHTS = "model.safetensors"


def _config(change: Callable[[dict[str, Any]], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        path = build.folders["source"] / "config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values), encoding="utf-8")

    return plant


def _tensors(change: Callable[[dict[str, Any]], None]) -> Callable[[Build], None]:
    def plant(build: Build) -> None:
        path = build.folders["source"] / _WEIGHTS
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return plant


def _without_head(build: Build) -> None:
    """The checkpoint of a bare encoder, for a task that needs a head."""
    folder = build.folders["source"]
    transformers.BertModel.from_pretrained(folder).save_pretrained(folder)


def _truncated(build: Build) -> None:
    path = build.folders["source"] / _WEIGHTS
    path.write_bytes(path.read_bytes()[:-4000])


def _pointer(build: Build) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"
    (build.folders["source"] / _WEIGHTS).write_text(text, encoding="utf-8")


def _pickle(build: Build) -> None:
    path = build.folders["source"] / _WEIGHTS
    path.rename(path.with_name("pytorch_model.bin"))


def _defect(name: str, plant: Callable[[Build], None], message: str) -> Defect:
    return Defect(
        name=name,
        group="sources",
        model="bert-classifier",
        plant=plant,
        stage="export",
        check="ExportError",
        message=message,
        optimum=_SOURCE,
    )


DEFECTS = (
    _defect(
        "the checkpoint of a bare encoder, for classification",
        _without_head,
        r"the checkpoint is a BertModel and not a BertForSequenceClassification: it has no weights for classifier\.",
    ),
    _defect(
        "a weight is NaN",
        _tensors(lambda tensors: tensors["bert.encoder.layer.1.output.dense.weight"][3].fill_(float("nan"))),
        r"tensor bert\.encoder\.layer\.1\.output\.dense\.weight contains 48 NaN values",
    ),
    _defect("the weights are truncated", _truncated, r"model\.safetensors"),
    _defect("the weights are a Git LFS pointer", _pointer, r"a Git LFS pointer, not weights.*git lfs pull"),
    _defect("the weights are pickled", _pickle, r"pickled weights"),
    _defect(
        "a tensor has another shape than the config says",
        _config(lambda values: values.update(intermediate_size=64)),
        r"intermediate\.dense\.weight has shape \(48, 32\) and not \(64, 32\)",
    ),
    _defect(
        "a weight is missing from the checkpoint",
        _tensors(lambda tensors: tensors.pop("bert.encoder.layer.1.output.dense.weight")),
        r"no weights for bert\.encoder\.layer\.1\.output\.dense\.weight",
    ),
    _defect(
        "the config has more layers than the checkpoint",
        _config(lambda values: values.update(num_hidden_layers=3)),
        r"config\.json says 3 layers in bert\.encoder\.layer, the checkpoint has 2",
    ),
    _defect(
        "the config brings code of its own",
        _config(lambda values: values.update(auto_map={"AutoModel": "modeling.Mine"})),
        r"config\.json sets 'auto_map'",
    ),
)
