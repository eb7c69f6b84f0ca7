from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import safe_weights

from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, ExportError
from modelbuild.model_spec import InitSource
from modelbuild.resolve import ResolvedBuild, resolve
from modelbuild.spec import BuildSpec
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import ExportSpec, FolderFiles, OptimizeSpec, PackageSpec, SidecarSpec, ValidateSpec
from modelbuild.stages import STAGES


def declared(source: dict[str, Any], **groups: Any) -> BuildSpec:
    values: dict[str, Any] = {
        "model": {"name": "tiny", "source": source},
        "task": {"name": "auto"},
        "opset": {"version": 18},
        "exporter": {"kind": "dynamo"},
        "sidecar": {"kind": "auto"},
        "optimization": {"kind": "none"},
        "precision": {"kind": "fp32"},
        "providers": {"order": ["cpu"]},
        "session": {},
        "validation": {"kind": "quick"},
        "benchmark": {"kind": "quick"},
    }
    return BuildSpec.model_validate_json(json.dumps(values | groups))


def resolved(architecture: str = "BertModel", **groups: Any) -> ResolvedBuild:
    return resolve(declared({"kind": "init", "architecture": architecture}, **groups), sha256_file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bert"
    path.mkdir()
    write_config(path, ["BertForMaskedLM"])
    (path / "model.safetensors").write_bytes(safe_weights())
    (path / "tokenizer.json").write_text("{}")
    return path


def write_config(folder: Path, architectures: object) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": architectures}))


def from_folder(folder: Path, **groups: Any) -> ResolvedBuild:
    return resolve(declared({"kind": "path", "path": str(folder)}, **groups), sha256_file)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertModel", "feature-extraction"),
        ("BertForMaskedLM", "fill-mask"),
        ("DistilBertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
    ],
)
def test_the_task_is_read_from_the_architecture(folder: Path, architecture: str, task: str) -> None:
    assert resolved(architecture).task == task
    write_config(folder, [architecture])
    assert from_folder(folder).task == task


def test_architectures_of_one_task_tell_it_whatever_else_there_is(folder: Path) -> None:
    write_config(folder, ["BertForPreTraining", "BertForMaskedLM", "RobertaForMaskedLM"])
    assert from_folder(folder).task == "fill-mask"


def test_a_task_that_is_asked_for_is_taken_whatever_the_architecture(folder: Path) -> None:
    assert from_folder(folder, task={"name": "text-classification"}).task == "text-classification"


@pytest.mark.parametrize("architectures", [None, []])
def test_without_architectures_the_task_is_asked_for(folder: Path, architectures: object) -> None:
    write_config(folder, architectures)
    with pytest.raises(ConfigError) as caught:
        from_folder(folder)
    (line,) = caught.value.lines()
    assert line.startswith("error[CFG]: the task of a model without architectures cannot be told: task.name: choose")


def test_architectures_of_several_tasks_are_refused_with_the_choice_between_them(folder: Path) -> None:
    write_config(folder, ["BertForMaskedLM", "BertForQuestionAnswering", "BertForMaskedLM"])
    with pytest.raises(ConfigError) as caught:
        from_folder(folder)
    (line,) = caught.value.lines()
    assert line == (
        "error[CFG]: the task of a BertForMaskedLM or a BertForQuestionAnswering cannot be told: task.name: "
        "choose task=fill-mask|question-answering"
    )
    assert from_folder(folder, task={"name": "question-answering"}).task == "question-answering"


def test_where_the_task_cannot_be_told_those_of_the_model_type_are_offered(folder: Path) -> None:
    write_config(folder, ["BertForNextSentencePrediction"])
    with pytest.raises(ConfigError, match="choose task=feature-extraction") as caught:
        from_folder(folder)
    assert "multiple-choice" in str(caught.value)
    assert "image" not in str(caught.value)


def test_an_architecture_of_no_task_is_named_with_the_tasks_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        resolved("BertForNextSentencePrediction")
    (line,) = caught.value.lines()
    assert "the task of a BertForNextSentencePrediction cannot be told: task.name: choose task=feature-extract" in line


def test_a_folder_without_a_tokenizer_is_refused_before_any_work_and_told_how_to_do_without(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "special_tokens_map.json")
    with pytest.raises(ExportError) as caught:
        from_folder(folder)
    (line,) = caught.value.lines()
    assert line == (
        f"error[EXP]: no tokenizer files: {folder}: expected tokenizer.json or vocab.txt; or sidecar=off"
    )  # fmt: skip
    assert from_folder(folder, sidecar={"kind": "off"}).task == "fill-mask"
    (folder / "vocab.txt").write_text("[PAD]")
    assert from_folder(folder).task == "fill-mask"


def test_no_library_of_custom_operators_is_loaded_for_a_model_that_is_refused(folder: Path) -> None:
    session = {"custom_ops": [str(folder / "no_such.so")]}
    with pytest.raises(ConfigError, match="no such library"):
        from_folder(folder, session=session)
    with pytest.raises(ConfigError, match="task=custom"):
        from_folder(folder, session=session, task={"name": "custom"})
    (folder / "config.json").unlink()
    with pytest.raises(ExportError, match=r"no config\.json"):
        from_folder(folder, session=session)


def test_the_name_of_a_build_tells_what_it_is_and_is_the_same_for_the_same_configuration() -> None:
    name = resolved().build_id()
    assert name.startswith("tiny-feature-extraction-opset18-cpu-fp32-")
    assert len(name.rpartition("-")[2]) == 12
    assert resolved().build_id() == name
    assert resolved(session={"allow_spinning": False}).build_id() != name
    assert resolved(benchmark={"kind": "quick", "runs": 4}).build_id() != name


def test_the_name_of_a_build_depends_on_its_configuration_and_not_on_the_content_of_the_model(folder: Path) -> None:
    name = from_folder(folder).build_id()
    (folder / "model.safetensors").write_bytes(safe_weights("b"))
    assert from_folder(folder).build_id() == name


def test_stages_come_in_order_and_each_has_its_slice_of_the_model(folder: Path) -> None:
    specs = stage_specs(from_folder(folder), {"machine": "m"})
    assert list(specs) == list(STAGES)

    def files(stage: str) -> set[str]:
        spec = specs[stage]
        assert isinstance(spec, ExportSpec | SidecarSpec | ValidateSpec | PackageSpec)
        assert isinstance(spec.model.source, FolderFiles)
        return set(spec.model.source.files)

    assert files("export") == {"config.json", "model.safetensors"}
    assert files("sidecar") == {"config.json", "tokenizer.json"}
    assert files("validate") == {"config.json", "model.safetensors", "tokenizer.json"}
    assert files("package") == {"config.json", "model.safetensors", "tokenizer.json"}
    assert isinstance(specs["optimize"], OptimizeSpec)
    assert not hasattr(specs["optimize"], "model")


def test_where_a_folder_is_changes_no_stage_but_package_which_records_the_build(folder: Path) -> None:
    moved = folder.rename(folder.parent / "moved")
    elsewhere = stage_specs(from_folder(moved), {})
    moved.rename(folder)
    here = stage_specs(from_folder(folder), {})
    assert {stage for stage in STAGES if here[stage] != elsewhere[stage]} == {"package"}


def test_pickles_that_are_allowed_and_not_there_change_no_stage_but_package_which_records_the_build(
    folder: Path,
) -> None:
    allowed = declared({"kind": "path", "path": str(folder), "allow_pickle": True})
    here, there = (stage_specs(build, {}) for build in (from_folder(folder), resolve(allowed, sha256_file)))
    assert {stage for stage in STAGES if here[stage] != there[stage]} == {"package"}


def test_the_source_of_an_init_model_is_in_the_stages_as_it_was_declared() -> None:
    spec = stage_specs(resolved(), {})["export"]
    assert isinstance(spec, ExportSpec)
    assert isinstance(spec.model.source, InitSource)
