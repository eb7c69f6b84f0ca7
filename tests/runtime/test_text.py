"""Texts in, vectors out: what the graph is given, and in which order vectors come back."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_tokenizers import WORDS, save_wordpiece
from tokenizers import Tokenizer
from tokenizers.processors import Sequence

from modelbuild.errors import HostError, InputError, PackageError
from modelbuild.manifest import Manifest, read_manifest
from modelbuild.runtime.text import TextEncoder
from modelbuild.signature import Signature, TensorSpec

TABLE = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)


class Recorded:
    """A model that embeds ids, and keeps what it was given."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest, self.folder = manifest, folder
        self.given: list[Mapping[str, Any]] = []

    def run(self, inputs: Mapping[str, Any], graph: str | None = None) -> dict[str, npt.NDArray[Any]]:
        self.given.append(inputs)
        return {"last_hidden_state": TABLE[inputs["input_ids"]]}


@pytest.fixture
def model(package: Path) -> Recorded:
    """With a tokenizer, mean pooling, and at most 8 tokens."""
    save_wordpiece(package)
    (package / "1_Pooling").mkdir()
    (package / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    kinds = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling")]
    (package / "modules.json").write_text(json.dumps(kinds))
    manifest = read_manifest(package)
    graph = manifest.graphs["model"]
    output = TensorSpec(name="last_hidden_state", dtype="float32", shape=("batch", "sequence", 4))
    graph = replace(graph, signature=Signature(inputs=graph.signature.inputs, outputs=(output,)))
    return Recorded(replace(manifest, graphs={"model": graph}), package)


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def test_a_text_is_the_mean_of_its_tokens(model: Recorded) -> None:
    vector = TextEncoder(model).encode("the a")
    assert vector.shape == (4,)
    np.testing.assert_allclose(vector, TABLE[ids("[CLS]", "the", "a", "[SEP]")].mean(axis=0), rtol=1e-5)
    assert list(model.given[0]) == ["input_ids", "attention_mask"]


def test_vectors_come_back_in_the_order_of_the_texts_and_run_by_length(model: Recorded) -> None:
    texts = ["a b c d", "a", "the", "b c d", "d"]
    encoder = TextEncoder(model)
    together = encoder.encode(texts, batch_size=2)
    np.testing.assert_allclose(together, [encoder.encode(text) for text in texts], rtol=1e-5)
    assert [given["input_ids"].shape for given in model.given[:3]] == [(2, 3), (2, 5), (1, 6)]
    assert model.given[1]["input_ids"][0, 3:].tolist() == ids("[PAD]", "[PAD]")
    assert model.given[1]["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_a_long_text_is_cut_to_what_the_model_takes(model: Recorded) -> None:
    TextEncoder(model).encode("a " * 50)
    assert model.given[0]["input_ids"].tolist() == [ids("[CLS]", *["a"] * 6, "[SEP]")]
    (model.folder / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    TextEncoder(model).encode("a " * 50)
    assert model.given[1]["input_ids"].tolist() == [ids("[CLS]", "a", "a", "[SEP]")]


def test_a_prompt_that_is_declared_is_put_before_the_text(model: Recorded) -> None:
    settings = {"prompts": {"query": "the "}, "default_prompt_name": "query"}
    (model.folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    TextEncoder(model).encode("a")
    assert model.given[0]["input_ids"].tolist() == [ids("[CLS]", "the", "a", "[SEP]")]


def test_no_text_gives_no_vector_and_an_empty_one_gives_one(model: Recorded) -> None:
    encoder = TextEncoder(model)
    assert encoder.encode([]).shape == (0, 4)
    assert encoder.encode([""]).shape == (1, 4)


def test_no_more_rows_run_at_once_than_the_model_takes(model: Recorded) -> None:
    graph = replace(model.manifest.graphs["model"], batch="batch", limits={"batch": 2, "sequence": 8})
    model.manifest = replace(model.manifest, graphs={"model": graph})
    assert TextEncoder(model).encode(["a", "b", "c"]).shape == (3, 4)
    assert [len(given["input_ids"]) for given in model.given] == [2, 1]


def test_a_tokenizer_s_own_way_to_cut_is_kept_and_no_limit_is_none(model: Recorded) -> None:
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    tokenizer.enable_truncation(100, direction="left")
    tokenizer.save(str(model.folder / "tokenizer.json"))
    (model.folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    TextEncoder(model).encode("a " * 20 + "b")
    assert model.given[0]["input_ids"].tolist() == [ids("[CLS]", *["a"] * 5, "b", "[SEP]")]
    graph = replace(model.manifest.graphs["model"], limits={})
    model.manifest = replace(model.manifest, graphs={"model": graph})
    TextEncoder(model).encode("a " * 20)
    assert model.given[1]["input_ids"].shape == (1, 22)


def test_a_text_without_tokens_is_named(model: Recorded) -> None:
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    tokenizer.post_processor = Sequence([])
    tokenizer.save(str(model.folder / "tokenizer.json"))
    with pytest.raises(InputError, match="text 1 has no tokens: leave it out"):
        TextEncoder(model).encode(["a", ""])


def test_prompts_that_make_no_sense_are_told(model: Recorded) -> None:
    (model.folder / "config_sentence_transformers.json").write_text('{"prompts": ["query"]}')
    with pytest.raises(PackageError, match=r"its prompts are no JSON object: .*config_sentence_transformers\.json"):
        TextEncoder(model)


@pytest.mark.parametrize(
    ("texts", "batch_size", "said"),
    [
        (["a", 7], 32, "text 1 is int, and not str"),
        (["a"], 0, "batch_size is 0"),
        (["a"], "3", "batch_size is '3'"),
        ([None], 32, "text 0 is NoneType"),
        (None, 32, "a text or a list of texts is wanted, got NoneType"),
        (b"the", 32, "a text or a list of texts is wanted, got bytes"),
        ("\ud800", 32, "a text cannot be read: .*: is it Unicode?"),
    ],
    ids=ascii,
)
def test_what_is_no_text_is_refused(texts: Any, batch_size: int, said: str, model: Recorded) -> None:
    with pytest.raises(InputError, match=said):
        TextEncoder(model).encode(texts, batch_size)


def test_a_package_that_cannot_encode_says_why(model: Recorded, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.manifest
    model.manifest = read_manifest(package)
    with pytest.raises(PackageError, match="gives no last_hidden_state encodes no texts"):
        TextEncoder(model)
    model.manifest = replace(whole, graphs={"a": whole.graphs["model"], "b": whole.graphs["model"]})
    with pytest.raises(PackageError, match="several graphs encodes no texts"):
        TextEncoder(model)
    model.manifest = whole
    (package / "tokenizer.json").rename(package / "gone.json")
    with pytest.raises(PackageError, match=r"the package has no tokenizer\.json"):
        TextEncoder(model)
    (package / "tokenizer.json").write_text("{}")
    with pytest.raises(PackageError, match=r"tokenizer\.json cannot be read"):
        TextEncoder(model)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(HostError, match=r"tokenizers is not installed: pip install 'modelbuild\[text\]'"):
        TextEncoder(model)
