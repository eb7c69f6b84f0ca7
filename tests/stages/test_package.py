"""package: the folder says what modules its graph is made of, and Hugging Face's readers do not mind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optimum.onnxruntime import ORTModelForSequenceClassification
from processes import run
from transformers import AutoConfig

from modelbuild.hierarchy import Hierarchy
from modelbuild.manifest import read_manifest
from modelbuild.runtime import load
from modelbuild.stages import package

pytestmark = pytest.mark.slow

BUILD = ("model=bert-tiny", "task=text-classification", "optimization=transformer", "validation=off", "benchmark=off")


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier, packaged."""
    folder = tmp_path_factory.mktemp("packaged")
    finished = run(*BUILD, "out=package", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "package"


def test_config_and_manifest_tell_of_the_modules(packaged: Path) -> None:
    told = json.loads((packaged / "config.json").read_text(encoding="utf-8"))["modelbuild"]
    hierarchy = Hierarchy.of_facts(read_manifest(packaged).graphs["model"].hierarchy)
    assert told["format"] == 1
    model = told["graphs"]["model"]
    assert model["strategy"] == hierarchy.strategy == "dynamo"
    assert model["module_types"] == hierarchy.module_types()
    assert model["module_types"]["BertLayer"] == 2
    assert hierarchy.shipped is not None
    assert model["coverage"]["share"] == hierarchy.shipped.share >= 0.9
    assert model["tree"]["classifier"] == {"class": "Linear", "nodes": 1, "parameters": 66}


def _logits(folder: Path) -> torch.Tensor:
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    given = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}
    logits: torch.Tensor = ORTModelForSequenceClassification.from_pretrained(folder)(**given).logits
    return logits


def test_transformers_and_optimum_open_it_and_answer_as_without_the_key(packaged: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(packaged, plain)
    values = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    del values["modelbuild"]
    (plain / "config.json").write_text(json.dumps(values), encoding="utf-8")
    with_key, without = (AutoConfig.from_pretrained(folder).to_dict() for folder in (packaged, plain))
    assert with_key.pop("modelbuild")["format"] == 1
    for config in (with_key, without):
        config.pop("_name_or_path", None)
    assert with_key == without
    assert torch.equal(_logits(packaged), _logits(plain))
    assert not np.isnan(_logits(packaged).numpy()).any()


@pytest.mark.parametrize("value", ["text", {"inferred": ["hidden_size"], "format": 0}, None])
def test_what_the_originals_config_has_under_our_key_is_replaced(value: Any, packaged: Path, tmp_path: Path) -> None:
    shutil.copytree(packaged, tmp_path / "original")
    config = tmp_path / "original" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(told | {"modelbuild": value}), encoding="utf-8")
    package._describe(
        config, {"model": {"hierarchy": read_manifest(packaged).graphs["model"].hierarchy}}, of_module=False
    )
    assert json.loads(config.read_text(encoding="utf-8")) == told


def test_its_tools_are_those_that_made_it(packaged: Path) -> None:
    tools = read_manifest(packaged).tools
    assert {"modelbuild", "python", "torch", "transformers", "onnxruntime", "cyclonedx-python-lib"} <= tools.keys()
    assert "diffusers" not in tools  # it is installed, and had no part in it
    assert tools["torch"] == torch.__version__


def test_a_package_without_config_has_its_modules_in_the_manifest(tmp_path: Path) -> None:
    finished = run(*BUILD, "sidecar=off", "out=package", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert not (tmp_path / "package" / "config.json").exists()
    assert read_manifest(tmp_path / "package").graphs["model"].hierarchy["module_types"]["BertLayer"] == 2
    assert load(tmp_path / "package").manifest.name == "bert-tiny"
