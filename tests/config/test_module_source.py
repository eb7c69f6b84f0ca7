from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from user_modules import spec_of

from modelbuild.config.schema import known_keys
from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError
from modelbuild.model_spec import ModuleSource
from modelbuild.resolve import resolve
from modelbuild.stage_slices import stage_specs

SHAPE = ["batch", "sequence", 16]
INPUT = {"dtype": "float32", "shape": SHAPE}


def source(**values: Any) -> dict[str, Any]:
    return {"path": "mine.py", "factory": "Net", "inputs": {"x": INPUT}} | values


def test_its_paths_are_seen_from_the_folder_of_the_build(tmp_path: Path) -> None:
    found = spec_of(source(weights="net.safetensors"), tmp_path).model.source
    assert isinstance(found, ModuleSource)
    assert (found.path, found.weights) == (str(tmp_path / "mine.py"), str(tmp_path / "net.safetensors"))
    without = found.without_folders()
    assert (without.path, without.weights) == ("mine.py", "net.safetensors")


def test_its_keys_may_be_overridden() -> None:
    keys = {f"model.source.{key}" for key in ("factory", "inputs.*", "axes.*", "config.*", "arguments.*", "weights")}
    assert keys <= set(known_keys())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"inputs": {"x": INPUT | {"dtype": "flaot32"}}},
            "'flaot32' is not possible: model.source.inputs.x.dtype: did you mean 'float32'?",
        ),
        ({"inputs": {"x": INPUT | {"belw": 3}}}, "unknown key: model.source.inputs.x.belw: did you mean 'below'?"),
        (
            {"inputs": {"x": {"dtype": "int64", "shape": SHAPE}}},
            "int64 needs below: its numbers are drawn from 0 to below it (or between: [1, 9]): model.source.inputs.x",
        ),
        (
            {"inputs": {"x": INPUT | {"between": [2, 1]}}},
            "between has its smaller number last: 2 and 1: model.source.inputs.x",
        ),
        (
            {"inputs": {"x": INPUT | {"content": "attention_mask"}}},
            "content=attention_mask is for a shape such as [batch, sequence]: model.source.inputs.x",
        ),
        (
            {"inputs": {"x": INPUT | {"content": "attention_mask", "shape": ["rows", "sequence"]}}},
            "content=attention_mask is for a shape such as [batch, sequence]: model.source.inputs.x",
        ),
        (
            {"inputs": {"x": INPUT | {"content": "token_ids", "shape": [4, "sequence"], "below": 9}}},
            "content=token_ids is for a shape such as [batch, sequence]: model.source.inputs.x",
        ),
        (
            {"inputs": {"x": INPUT | {"content": "indices"}}},
            "content=indices needs below: its numbers are drawn from 0 to below it: model.source.inputs.x",
        ),
        (
            {"inputs": {"x": INPUT | {"content": "token_type_ids", "shape": ["batch", "sequence"]}}},
            "content=token_type_ids needs below: its numbers are drawn from 0 to below it: model.source.inputs.x",
        ),
        (
            {"axes": {"sequense": {"max": 3}}},
            "axes.sequense: no input has such an axis; did you mean 'sequence'?: model.source",
        ),
        (
            {"axes": {"sequence": {"min": 3, "max": 3}}},
            "max 3 leaves no sizes above min 3: write the size into the shape: model.source.axes.sequence",
        ),
        (
            {"inputs": {}},
            "inputs are declared or made by a function: set inputs or example_inputs, one of them: model.source",
        ),
        (
            {"path": None},
            "a module is in a Python file or in a Python package: set path or import_path, one of them: model.source",
        ),
        (
            {"import_path": "a.b"},
            "a module is in a Python file or in a Python package: set path or import_path, one of them: model.source",
        ),
        (
            {"dynamic_axes": {"x": {"0": "batch"}}},
            "dynamic_axes go with example_inputs; in inputs, a name in a shape is a dynamic axis: model.source",
        ),
        ({"outputs": ["a", "a"]}, "outputs has a name twice: a, a: model.source"),
        ({"factor": "Net"}, "unknown key: model.source.factor: did you mean 'factory'?"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        spec_of(source(**values), tmp_path)
    assert caught.value.lines() == [f"error[CFG]: {message}"]


def test_optimum_exports_models_of_transformers_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(
        ConfigError,
        match=r"exporter=optimum does not make the graphs for custom: exporter\.kind: choose",
    ):
        resolve(spec_of(source(), tmp_path, exporter={"kind": "optimum"}, opset={"version": 18}), sha256_file)


def with_task(name: str, folder: Path) -> Any:
    spec = spec_of(source(), folder)
    return spec.model_copy(update={"task": spec.task.model_copy(update={"name": name})})


def test_a_module_has_a_task_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    assert resolve(with_task("auto", tmp_path), sha256_file).task == "custom"
    with pytest.raises(ConfigError, match=r"task=fill-mask with model\.source\.kind=module: task\.name: .*task=custom"):
        resolve(with_task("fill-mask", tmp_path), sha256_file)


def test_what_is_in_the_config_matters_to_the_sidecar_and_the_checks_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    one, other = (
        stage_specs(resolve(spec_of(source(config=config), tmp_path), sha256_file), {}) for config in ({}, {"a": 1})
    )
    assert {stage for stage in one if one[stage] != other[stage]} == {"sidecar", "validate", "package"}
