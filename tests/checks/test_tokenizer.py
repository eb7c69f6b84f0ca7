"""The tokenizer that ships against the model and the original's: every fault has a name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run
from tiny_classifier import SIZES, edit, failed, init_model, labelled, make_subject, save_classifier, save_model
from tiny_tokenizers import WORDS, save_bpe, save_wordpiece

from modelbuild.batches import TEXTS
from modelbuild.checks import tokenizer
from modelbuild.checks.subject import Subject
from modelbuild.golden_text import FILE_NAME, GOLDEN_TEXTS, golden_text, read_golden_text
from modelbuild.manifest import read_manifest

TOKENIZER_CHECKS = {
    "tokenizer present", "tokenizer size", "tokenizer max length", "tokenizer inputs", "tokenizer padding side",
    "tokenizer special tokens", "tokenizer parity",
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
    return failed(list(tokenizer.examine(subject)))


def test_the_files_that_the_stage_made_pass_every_check(made: Subject) -> None:
    checks = list(tokenizer.examine(made))
    assert {check.name for check in checks} == TOKENIZER_CHECKS
    assert not failed(checks)


def test_a_model_from_no_files_has_no_tokenizer_to_check(tmp_path: Path) -> None:
    assert not list(tokenizer.examine(make_subject(init_model(), tmp_path)))


def test_there_are_no_checks_where_no_sidecar_was_asked_for(made: Subject, tmp_path: Path) -> None:
    assert made.source
    assert not list(tokenizer.examine(make_subject(made.source, tmp_path, kind="off")))


def test_a_config_without_the_tokenizer_that_the_original_has_is_found(subject: Subject) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (subject.sidecar / name).unlink()
    faults = _faults(subject)
    assert faults.keys() == {"tokenizer present"}
    assert "tokenizer.json is missing, which the original has" in faults["tokenizer present"]


@pytest.mark.parametrize("name", ["vocab.txt", "special_tokens_map.json", "tokenizer.json"])
def test_one_file_of_the_original_that_is_missing_is_found(name: str, subject: Subject) -> None:
    (subject.sidecar / name).unlink()
    assert _faults(subject)["tokenizer present"] == f"{name} is missing, which the original has"


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("tokenizer.json", '{"version": "1.0", "mod', "tokenizer.json: Unterminated string starting at: line 1 col"),
        ("tokenizer.json", "", "tokenizer.json: Expecting value: line 1 column 1"),
        ("tokenizer.json", "\xff\xfe", "tokenizer.json: "),
        ("tokenizer.json", "[]", "tokenizer.json is [], no object"),
        ("tokenizer.json", '{"model": 3}', "the tokenizer cannot be read: "),
        ("tokenizer_config.json", "{", "tokenizer_config.json: Expecting property name"),
        ("tokenizer_config.json", "[1]", "tokenizer_config.json is [1], no object"),
        ("tokenizer_config.json", "3", "tokenizer_config.json is 3, no object"),
        ("tokenizer_config.json", '{"tokenizer_class": "NoSuchTokenizer"}', "the tokenizer cannot be read: "),
        ("tokenizer_config.json", '{"tokenizer_class": 3}', "the tokenizer cannot be"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [3]}', "the tokenizer cannot be"),
        ("special_tokens_map.json", "{]", "special_tokens_map.json: "),
        ("special_tokens_map.json", "[]", "special_tokens_map.json is [], no object"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_are_a_fault_that_says_where(
    name: str, text: str, where: str, subject: Subject
) -> None:
    (subject.sidecar / name).write_text(text, encoding="latin-1")
    faults = _faults(subject)
    assert faults.keys() == {"tokenizer present"}
    assert where in faults["tokenizer present"]
    assert len(faults["tokenizer present"].splitlines()) == 1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_tokenizer_is_a_fault_and_no_exception(share: float, subject: Subject) -> None:
    path = subject.sidecar / "tokenizer.json"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "tokenizer.json: " in _faults(subject)["tokenizer present"]


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_found(subject: Subject) -> None:
    save_wordpiece(subject.sidecar, [*WORDS, "harbour", "quiet"], model_max_length=16)
    checks = {check.name: check for check in tokenizer.examine(subject)}
    size = checks["tokenizer size"]
    assert not size.passed
    assert (size.worst, size.limit) == (66, 64)
    assert size.where == "the tokenizer has 66 ids, the model's embedding has 64 rows"
    assert {name for name, check in checks.items() if not check.passed} == {"tokenizer size", "tokenizer parity"}


def test_an_added_token_counts_even_where_ids_before_it_are_free(subject: Subject) -> None:
    path = subject.sidecar / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["model"]["vocab"]["##z"]
    values["model"]["vocab"]["!"] = 70
    path.write_text(json.dumps(values), encoding="utf-8")
    assert "the tokenizer has 71 ids" in _faults(subject)["tokenizer size"]


@pytest.mark.parametrize(
    ("length", "where"),
    [
        (10**30, "model_max_length: 1e+30, the model takes 16"),
        (1e30, "model_max_length: 1e+30, the model takes 16"),
        (17, "model_max_length: 17, the model takes 16"),
        (..., "model_max_length: missing, the model takes 16"),
        (None, "model_max_length: missing"),
        ("x", 'model_max_length: "x" is no length'),
        (True, "model_max_length: true is no length"),
        (0, "model_max_length: 0 is no length"),
        ([16], "model_max_length: [16] is no length"),
    ],
)
def test_a_maximum_length_that_the_model_cannot_take_is_found(length: Any, where: str, subject: Subject) -> None:
    edit(subject.sidecar / "tokenizer_config.json", model_max_length=length)
    faults = _faults(subject)
    assert faults.keys() == {"tokenizer max length"}
    assert where in faults["tokenizer max length"]


@pytest.mark.parametrize(("length", "faulty"), [(10**30, False), (4096, False), (None, False), ("x", True), (0, True)])
def test_any_maximum_length_is_right_for_a_model_without_a_limit(subject: Subject, length: Any, faulty: bool) -> None:
    axes = tuple(axis.model_copy(update={"largest": None}) for axis in subject.interface.axes)
    free = replace(subject.component, interface=subject.interface.model_copy(update={"axes": axes}))
    path = subject.sidecar / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"model_max_length": length}
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert ("tokenizer max length" in _faults(replace(subject, component=free))) is faulty


def test_a_tokenizer_of_another_model_is_found(subject: Subject) -> None:
    words = [*WORDS[:5], *reversed(WORDS[5:])]
    save_wordpiece(subject.sidecar, words, model_max_length=16)
    faults = _faults(subject)
    assert faults.keys() == {"tokenizer parity"}
    assert (
        'text 0 "The harbour was quiet.", position 1: the (9), the original\'s is the (59); text 1'
        in (faults["tokenizer parity"])
    )


def test_other_letters_of_case_are_found_with_text_position_and_both_tokens(subject: Subject) -> None:
    save_wordpiece(subject.sidecar, do_lower_case=False, model_max_length=16)
    where = _faults(subject)["tokenizer parity"]
    assert 'text 0 "The harbour was quiet.", position 1: T (60), the original\'s is the (59)' in where


def test_accents_that_are_kept_are_found(subject: Subject) -> None:
    save_wordpiece(subject.sidecar, strip_accents=False, model_max_length=16)
    where = _faults(subject)["tokenizer parity"]
    assert where.startswith('text 3 "Über naïve façades')
    assert "text 0 " not in where


def test_a_token_that_no_text_reaches_is_found(subject: Subject) -> None:
    path = subject.sidecar / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    assert text.count('"##z": 56,') == text.count('"##q": 47,') == 1
    swapped = text.replace('"##z": 56,', '"##z": 47,').replace('"##q": 47,', '"##q": 56,')
    path.write_text(swapped, encoding="utf-8")
    assert _faults(subject).keys() == {"tokenizer parity"}


def test_a_vocabulary_that_is_not_the_original_s_is_found_where_the_texts_give_the_same_ids(subject: Subject) -> None:
    (subject.sidecar / "vocab.txt").write_text("another\n")
    where = _faults(subject)["tokenizer parity"]
    assert where == "vocab.txt is not the original's, though the texts give the same ids"


def test_padding_on_the_other_side_is_found(subject: Subject) -> None:
    edit(subject.sidecar / "tokenizer_config.json", padding_side="left")
    faults = _faults(subject)
    assert faults.keys() == {"tokenizer padding side"}
    assert (
        "padding_side: left, the original's is right; attention mask of a padded batch: 0 on the left, "
        in (faults["tokenizer padding side"])
    )


def test_another_padding_token_is_found(subject: Subject) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        edit(subject.sidecar / name, pad_token="[MASK]")
    faults = _faults(subject)
    assert faults["tokenizer special tokens"] == "pad_token: [MASK] (4), the original's is [PAD] (0)"


def test_a_special_token_that_was_added_is_found(subject: Subject) -> None:
    edit(subject.sidecar / "special_tokens_map.json", additional_special_tokens=["the"])
    edit(subject.sidecar / "tokenizer_config.json", additional_special_tokens=["the"])
    where = _faults(subject)["tokenizer special tokens"]
    assert where == "additional_special_tokens[0]: the (59), the original's is none"


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (["input_ids", "attention_mask"], "the original's are ('input_ids', 'token_type_ids', 'attention_mask')"),
        (["input_ids"], "model_input_names: no attention_mask, which the graph takes"),
    ],
)
def test_a_tokenizer_that_does_not_make_what_the_graph_takes_is_found(
    names: list[str], where: str, subject: Subject
) -> None:
    edit(subject.sidecar / "tokenizer_config.json", model_input_names=names)
    faults = _faults(subject)
    assert faults.keys() >= {"tokenizer inputs"}
    assert where in faults["tokenizer inputs"]


def test_token_types_that_the_original_never_had_are_zeros_and_no_fault(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    sizes = SIZES | {"max_position_embeddings": 18, "type_vocab_size": 1}
    save_model(source, "Roberta", **sizes, **labelled(), bos_token_id=None, eos_token_id=None, pad_token_id=0)
    save_wordpiece(source, model_input_names=["input_ids", "attention_mask"])
    subject = make_subject(source, out)
    assert "token_type_ids" in subject.interface.input_names()
    assert not _faults(subject)


def test_token_types_that_are_not_zeros_when_they_are_not_given_are_a_fault(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    sizes: dict[str, Any] = {"vocab_size": 64, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}
    save_model(source, "GPT2", "Model", **sizes, bos_token_id=59, eos_token_id=59)
    save_bpe(source)
    faults = _faults(make_subject(source, out, "feature-extraction"))
    assert faults.keys() == {"tokenizer inputs"}
    assert "no token_type_ids, which the graph takes" in faults["tokenizer inputs"]


def test_a_tokenizer_without_padding_has_no_padded_batch_to_compare(tmp_path: Path) -> None:
    save_bpe(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    golden = golden_text(tmp_path, max_length=16)
    assert golden.padded == golden.mask == ()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (None, "golden_text.json is missing"),
        ("{", "golden_text.json is damaged"),
        ("[]", "golden_text.json is damaged"),
        ('{"format": 2}', "golden_text.json has format 2, which is newer than 1"),
        ('{"format": "1"}', "golden_text.json is damaged"),
        ('{"format": 1, "max_length": 16, "texts": 3}', "golden_text.json is damaged"),
    ],
)
def test_golden_texts_that_are_not_there_or_damaged_are_a_fault(text: str | None, where: str, subject: Subject) -> None:
    path = subject.sidecar / FILE_NAME
    path.unlink() if text is None else path.write_text(text)
    faults = _faults(subject)
    assert faults.keys() == {"tokenizer parity"}
    assert where in faults["tokenizer parity"]


def test_another_model_s_tokenizer_with_its_own_golden_texts_is_found(subject: Subject, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    out.mkdir()
    save_model(other, **SIZES, **labelled())
    save_wordpiece(other, [*WORDS[:5], *reversed(WORDS[5:])])
    swapped = replace(subject, sidecar=make_subject(other, out).sidecar)
    assert "golden_text.json is not what the original's tokenizer makes" in _faults(swapped)["tokenizer parity"]


def test_golden_texts_hold_every_sample_and_the_hard_cases() -> None:
    assert set(TEXTS) < set(GOLDEN_TEXTS)
    assert {"", "   "} < set(GOLDEN_TEXTS)
    assert len(set(GOLDEN_TEXTS)) == len(GOLDEN_TEXTS)
    assert max(map(len, GOLDEN_TEXTS)) > 3000


@pytest.mark.slow
def test_a_package_ships_its_golden_texts_and_makes_them_of_its_own_tokenizer(tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, BertForSequenceClassification

    source = tmp_path / "source"
    save_classifier(source)
    words = ("model=path", f"model.source.path={source}", "validation=quick", "benchmark=off", "optimization=none")
    finished = run(*words, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    package = Path(finished.stdout.splitlines()[-1])
    package = package if package.is_absolute() else tmp_path / package
    assert FILE_NAME in read_manifest(package).files
    golden = read_golden_text(package)
    assert golden_text(package, max_length=golden.max_length) == golden
    assert golden == golden_text(source, max_length=16)
    encoded = AutoTokenizer.from_pretrained(package)(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    assert encoded["input_ids"].shape == (len(TEXTS), 16)
    logits = ORTModelForSequenceClassification.from_pretrained(package)(**encoded).logits
    expected = BertForSequenceClassification.from_pretrained(source)(**encoded).logits
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_folder_without_a_tokenizer_is_refused_before_any_stage_runs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_model(source, **SIZES, **labelled())
    words = ("model=path", f"model.source.path={source}", "benchmark=off")
    for command in ((), ("plan",)):
        finished = run(*command, *words, cwd=tmp_path)
        assert finished.returncode == 3
        assert f"error[EXP]: no tokenizer files: {source}: expected tokenizer.json or vocab.txt; or sidecar=off" in (
            finished.stderr
        )
    assert not list((tmp_path / "artifacts" / "adhoc").glob("*"))
