"""generation_config.json: made, copied and checked. Every fault that it may have is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from families.causal_checkpoints import END, save_decoder
from tiny_classifier import edit, failed, model_in

from modelbuild.checks import generation, sidecar
from modelbuild.checks.subject import Subject
from modelbuild.families.split import components_of
from modelbuild.graph import GraphFacts
from modelbuild.model_files import CONFIG_FILE, GENERATION_CONFIG
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import Report, write_report
from modelbuild.signature import Signature, TensorSpec
from modelbuild.spec import Opset, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import SidecarSpec, ValidateSpec
from modelbuild.stages import sidecar as stage
from modelbuild.tasks import TASKS

TASK = TASKS["text-generation"]


def _sidecar(source: Path, out: Path) -> Report:
    out.mkdir()
    spec = SidecarSpec(model=model_in(source), task=TASK.name, sidecar=Sidecar(kind="auto"))
    report = stage.run(spec, {"source": source}, out)
    write_report(report, out / "report.json")
    return report


def _subject(source: Path, out: Path) -> Subject:
    """What the checks may look at, with a graph of the right interface."""
    model = model_in(source)
    reference = load_reference(model, TASK, source)
    (component,) = components_of(reference, TASK)
    scores = TensorSpec(name="logits", dtype="float32", shape=("batch", "sequence", 64))
    return Subject(
        spec=ValidateSpec(
            model=model,
            task=TASK.name,
            opset=Opset(version=20),
            precision=Fp32Precision(kind="fp32"),
            providers=Providers(order=("cpu",)),
            session=Session(),
            validation=Validation(kind="quick"),
        ),
        task=TASK,
        model_file=out / "model.onnx",
        exported_file=out / "model.onnx",
        exported_facts={},
        graph=GraphFacts(
            signature=Signature(
                inputs=tuple(component.interface.expected(value) for value in component.interface.inputs),
                outputs=(scores,),
            ),
            opsets={"": 20},
            ir_version=10,
            operators={},
            tagged_nodes=0,
        ),
        sidecar=out,
        source=source,
        reference=reference,
        component=component,
        limits=component.interface.limits(),
    )


def _settings(out: Path, name: str = GENERATION_CONFIG) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((out / name).read_text(encoding="utf-8"))
    return settings


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A GPT-2 without a padding token, and what its config says of tasks."""
    save_decoder(tmp_path / "source", task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}})
    return tmp_path / "source"


def test_the_original_s_own_settings_are_kept_with_those_of_tasks(source: Path, tmp_path: Path) -> None:
    edit(source / GENERATION_CONFIG, temperature=0.7, do_sample=True, eos_token_id=[END, 3])
    _sidecar(source, tmp_path / "out")
    assert _settings(tmp_path / "out") == _settings(source)
    assert _settings(tmp_path / "out", CONFIG_FILE)["task_specific_params"] == {
        "text-generation": {"do_sample": True, "max_length": 50}
    }
    assert failed([*generation.examine(_subject(source, tmp_path / "out"))]) == {}


def test_where_there_are_none_they_are_made_as_transformers_does(source: Path, tmp_path: Path) -> None:
    (source / GENERATION_CONFIG).unlink()
    report = _sidecar(source, tmp_path / "out")
    assert _settings(tmp_path / "out") == {"bos_token_id": END, "eos_token_id": END}
    assert report.facts["set"][f"{GENERATION_CONFIG} eos_token_id"] == END
    assert failed([*generation.examine(_subject(source, tmp_path / "out"))]) == {}


def test_the_cache_that_the_graph_has_is_used(source: Path, tmp_path: Path) -> None:
    edit(source / GENERATION_CONFIG, use_cache=False)
    edit(source / CONFIG_FILE, use_cache=False)
    report = _sidecar(source, tmp_path / "out")
    assert _settings(tmp_path / "out")["use_cache"] is True
    assert report.facts["set"].keys() >= {"use_cache", f"{GENERATION_CONFIG} use_cache"}
    assert failed([*generation.examine(_subject(source, tmp_path / "out"))]) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eos_token_id": 5}, f"{GENERATION_CONFIG} eos_token_id: 5, the original's is {END}"),
        ({"eos_token_id": ...}, f"{GENERATION_CONFIG} eos_token_id: null, the original's is {END}"),
        ({"bos_token_id": 64}, f"{GENERATION_CONFIG} bos_token_id: 64 is not in the vocabulary of 64"),
        ({"pad_token_id": 0}, f"{GENERATION_CONFIG} pad_token_id: 0, the original's is null"),
        ({"use_cache": False}, f"{GENERATION_CONFIG} use_cache: false, the graph has a cache"),
        ({"max_new_tokens": 0}, f"{GENERATION_CONFIG}: transformers refuses it: "),
    ],
)
def test_settings_that_are_not_the_original_s_are_named(
    changes: Mapping[str, Any], message: str, source: Path, tmp_path: Path
) -> None:
    _sidecar(source, tmp_path / "out")
    edit(tmp_path / "out" / GENERATION_CONFIG, **changes)
    assert message in failed([*generation.examine(_subject(source, tmp_path / "out"))])["generation config"]


@pytest.mark.parametrize(
    ("text", "message"), [(None, "generation_config.json is missing"), ("{", "Expecting"), ("[]", "[], no object")]
)
def test_settings_that_cannot_be_read_are_a_fault(text: str | None, message: str, source: Path, tmp_path: Path) -> None:
    _sidecar(source, tmp_path / "out")
    path = tmp_path / "out" / GENERATION_CONFIG
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert message in failed([*generation.examine(_subject(source, tmp_path / "out"))])["generation config"]


def test_an_end_of_the_original_s_that_no_vocabulary_has_is_a_fault(source: Path, tmp_path: Path) -> None:
    edit(source / GENERATION_CONFIG, eos_token_id=[END, 50256], pad_token_id=-1)
    _sidecar(source, tmp_path / "out")
    found = failed([*generation.examine(_subject(source, tmp_path / "out"))])
    assert found == {"generation config": f"{GENERATION_CONFIG} eos_token_id: 50256 is not in the vocabulary of 64"}


def test_use_of_the_cache_in_the_config_is_looked_at_too(source: Path, tmp_path: Path) -> None:
    _sidecar(source, tmp_path / "out")
    edit(tmp_path / "out" / CONFIG_FILE, use_cache=False)
    found = failed([*generation.examine(_subject(source, tmp_path / "out"))])
    assert found == {"generation config": f"{CONFIG_FILE} use_cache: false, the graph has a cache"}


@pytest.mark.parametrize(("key", "value"), [("num_key_value_heads", 1), ("head_dim", 4), ("vocab_size", 65)])
def test_sizes_of_a_cache_in_the_config_are_compared(key: str, value: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_decoder(source, "llama")
    _sidecar(source, tmp_path / "out")
    assert failed([*sidecar.examine(_subject(source, tmp_path / "out"))]) == {}
    edit(tmp_path / "out" / CONFIG_FILE, **{key: value})
    found = failed([*sidecar.examine(_subject(source, tmp_path / "out"))])
    assert f"{CONFIG_FILE} {key}: {value}, the original's is" in found["config dimensions"]
