from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from user_modules import component_of, source_of, write_module

from modelbuild.component import Component
from modelbuild.errors import ExportError
from modelbuild.module_config import config_of

TAGGER = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.types = nn.Embedding(2, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.head = nn.Linear(16, 5)
        if config is not None:
            self.config = config

    def forward(self, ids):
        states = self.encoder(self.tokens(ids) + self.types(ids * 0))
        return {"logits": self.head(states), "states": states}
"""
IDS = {"ids": {"dtype": "int64", "shape": ["batch", "sequence"], "content": "token_ids", "below": 50}}
SHOWN = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "num_labels": 5, "vocab_size": 50}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Component:
    return component_of(source_of(write_module(tmp_path_factory.mktemp("tagger"), TAGGER), inputs=IDS))


def of(component: Component, **given: Any) -> dict[str, Any]:
    return config_of(component.module.model, given, component.interface).values


def test_what_a_module_shows_is_in_its_config_and_marked_as_inferred(tagger: Component) -> None:
    config = of(tagger)
    assert config == SHOWN | {
        "architectures": ["Net"],
        "model_type": "custom",
        "modelbuild": {"inferred": sorted([*SHOWN, "architectures", "model_type"])},
    }


def test_what_is_given_by_hand_is_taken_as_it_is_and_not_marked(tagger: Component) -> None:
    config = of(tagger, model_type="bert", hidden_size=99, note="mine", modelbuild={"hierarchy": {}})
    assert (config["model_type"], config["hidden_size"], config["note"]) == ("bert", 99, "mine")
    assert set(config["modelbuild"]) == {"hierarchy", "inferred"}
    assert not {"model_type", "hidden_size", "note"} & set(config["modelbuild"]["inferred"])


@pytest.mark.parametrize("kind", ["dict", "transformers", "dataclass"])
def test_a_config_that_the_module_has_comes_first_and_what_is_given_goes_over_it(kind: str, tmp_path: Path) -> None:
    makers = {
        "dict": "dict(vocab_size=50, depth=3, width=16, dtype=torch.float32)",
        "transformers": "__import__('transformers').PretrainedConfig(vocab_size=50, depth=3, width=16)",
        "dataclass": "Sizes()",
    }
    sizes = (
        "from dataclasses import dataclass\n@dataclass\nclass Sizes:\n    vocab_size: int = 50\n    depth: int = 3\n"
    )
    make = f"    width: int = 16\ndef make():\n    return Net({makers[kind]})\n"
    path = write_module(tmp_path, TAGGER, sizes + make)
    config = of(component_of(source_of(path, factory="make", inputs=IDS)), depth=4)
    assert (config["vocab_size"], config["width"], config["depth"]) == (50, 16, 4)
    assert "vocab_size" not in config["modelbuild"]["inferred"]
    assert {"hidden_size", "num_hidden_layers"} < set(config["modelbuild"]["inferred"])


def test_a_modules_own_config_may_have_sizes_of_each_stage_and_none(tmp_path: Path) -> None:
    own = "dict(num_attention_heads=[1, 2, 5, 8], vocab_size=None, architectures=None, model_type='', note=None, "
    own += "_name_or_path='/here', parts=[dict(_name_or_path='/here', depth=1)])"
    path = write_module(tmp_path, TAGGER, f"def make():\n    return Net({own})\n")
    config = of(component_of(source_of(path, factory="make", inputs=IDS)))
    assert (config["num_attention_heads"], config["vocab_size"], config["note"]) == ([1, 2, 5, 8], 50, None)
    assert (config["architectures"], config["model_type"], config["parts"]) == (["Net"], "custom", [{"depth": 1}])
    assert "vocab_size" in config["modelbuild"]["inferred"]
    assert "_name_or_path" not in config


def test_nothing_is_made_up_for_a_module_that_does_not_show_it(tmp_path: Path) -> None:
    text = TAGGER.replace("nn.Embedding(50, 16)", "nn.Embedding(60, 16)").replace('"logits"', '"values"')
    text = text.replace("self.head = ", "self.more = nn.MultiheadAttention(16, 4)\n        self.head = ")
    text = text.replace("self.more = ", "self.second = nn.TransformerEncoder(layer, 1)\n        self.more = ")
    config = of(component_of(source_of(write_module(tmp_path, text), inputs=IDS)))
    assert not {"vocab_size", "num_labels", "num_attention_heads", "num_hidden_layers"} & config.keys()
    assert config["hidden_size"] == 16


def test_layers_are_those_of_the_only_list_of_blocks(tmp_path: Path) -> None:
    class Block(torch.nn.Module):  # type: ignore[misc]  # torch gives its classes no types
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

    lists = torch.nn.ModuleList(Block() for _ in range(4))
    heads = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
    text = write_module(tmp_path, TAGGER)
    interface = component_of(source_of(text, inputs=IDS)).interface
    model = torch.nn.ModuleDict({"blocks": lists, "heads": heads})
    assert config_of(model, {}, interface).values["num_hidden_layers"] == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_type": 3}, r"model_type is 3, and must be a text: model\.source\.config"),
        ({"architectures": "Net"}, r'architectures is "Net", and must be a list of class names'),
        ({"hidden_size": "16"}, r'hidden_size is "16", and must be a whole number from 1: .*: correct model'),
        ({"vocab_size": None}, r"vocab_size is null, and must be a whole number from 1"),
        ({"num_labels": 0}, r"num_labels is 0, and must be a whole number from 1"),
        ({"model_type": ""}, r'model_type is "", and must be a text'),
        ({"auto_map": {"AutoModel": "x--y"}}, r"sets 'auto_map', which makes transformers run code from elsewhere"),
        ({"_attn_implementation": "who/kernel"}, r"sets '_attn_implementation'"),
    ],
)
def test_a_config_that_cannot_be_is_refused(given: dict[str, Any], message: str, tagger: Component) -> None:
    with pytest.raises(ExportError, match=message):
        of(tagger, **given)
