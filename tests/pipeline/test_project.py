"""What makes a folder a build: declared and ad hoc ones have the same stages, and the same keys."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import yaml
from checkpoints import safe_weights
from dvc.stage.cache import _get_cache_hash
from onnx import TensorProto, helper

from modelbuild.commands import compose as compose_command
from modelbuild.config.compose import compose
from modelbuild.config.location import packaged
from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, HostError, PackageError
from modelbuild.manifest import FILE_NAME, read_manifest
from modelbuild.pipeline import state
from modelbuild.pipeline.build_folder import read_locations, write_params
from modelbuild.pipeline.driver import resolve_here
from modelbuild.pipeline.project import Workspace, adhoc_stages, stage_params, write_adhoc_project
from modelbuild.pipeline.publish import publish
from modelbuild.pipeline.runner import run_stage
from modelbuild.pipeline.state import build_states, open_project
from modelbuild.pipeline.why import nearest, reasons
from modelbuild.resolve import ResolvedBuild
from modelbuild.stages import STAGES


def _tiny(workspace: Path, *overrides: str) -> ResolvedBuild:
    return resolve_here(compose(["model=bert-tiny", *overrides], workspace).spec, Workspace(workspace))


def _project(workspace: Path, *overrides: str) -> Path:
    build = _tiny(workspace, *overrides)
    Workspace(workspace).prepare()
    folder = Workspace(workspace).adhoc / build.build_id()
    write_adhoc_project(Workspace(workspace), folder, stage_params(build), {})
    return folder


def test_ad_hoc_stages_are_the_declared_ones_without_folder_and_with_every_output_cached() -> None:
    declared = yaml.safe_load(packaged("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    derived = adhoc_stages()
    assert list(derived) == list(STAGES)
    for name, stage in derived.items():
        assert "wdir" not in stage
        assert stage["cmd"] == declared[name]["do"]["cmd"]
        assert stage.get("outs") == declared[name]["do"].get("outs")
        assert "cache" not in str(stage.get("metrics")) + str(stage.get("plots"))


def test_a_declared_build_has_the_run_cache_keys_of_an_ad_hoc_one(workspace: Path) -> None:
    adhoc = _project(workspace)
    (workspace / "dvc.yaml").write_text(packaged("dvc.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (workspace / "params.yaml").write_text("builds: {tiny: [model=bert-tiny]}\n", encoding="utf-8")
    declared = workspace / "artifacts" / "tiny"
    declared.mkdir()
    write_params(declared, stage_params(_tiny(workspace)), {})
    ours = {s.stage: s.key for s in build_states(open_project(adhoc))}
    stages = {
        stage.name.partition("@")[0]: stage for stage in open_project(workspace).index.stages if "@" in stage.name
    }
    params = state.read_yaml(declared / "params.yaml")
    for name in ("export", "sidecar"):
        entry = {
            "cmd": stages[name].cmd,
            "params": {"params.yaml": {name: params[name]}},
            "outs": [{"path": out.def_path} for out in stages[name].outs],
        }
        assert _get_cache_hash(entry, key=True) == ours[name]


def test_a_new_build_is_to_run_and_what_follows_has_no_key_yet(workspace: Path) -> None:
    states = build_states(open_project(_project(workspace)))
    assert [s.status for s in states] == ["run"] * len(STAGES)
    assert [s.stage for s in states if s.key] == ["export", "sidecar"]


def test_params_name_no_path_of_this_machine(workspace: Path) -> None:
    text = (_project(workspace) / "params.yaml").read_text(encoding="utf-8")
    assert str(workspace) not in text
    assert str(Path(state.__file__).parents[2]) not in text


def test_the_state_of_dvc_is_private(workspace: Path) -> None:
    _project(workspace)
    assert Workspace(workspace).private.stat().st_mode & 0o077 == 0
    assert "site_cache_dir" in (_project(workspace) / ".dvc" / "config").read_text(encoding="utf-8")


def test_a_path_with_a_comma_or_a_hash_is_a_workspace_like_any_other(tmp_path: Path) -> None:
    workspace = tmp_path / "a, b #c"
    workspace.mkdir()
    assert build_states(open_project(_project(workspace)))[0].status == "run"
    assert [path.name for path in tmp_path.iterdir()] == ["a, b #c"]


def test_the_same_files_elsewhere_have_the_same_parameters(tmp_path: Path) -> None:
    found = []
    for name in ("here", "there"):
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        config = {"model_type": "bert", "architectures": ["BertModel"]}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "model.safetensors").write_bytes(safe_weights())
        build = compose(["model=path", f"model.source.path={folder}", "sidecar=off"], tmp_path).spec
        found.append(stage_params(resolve_here(build, Workspace(tmp_path))))
    assert found[0] == found[1]


def test_a_workspace_that_cannot_be_written_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file", encoding="utf-8")
    with pytest.raises(HostError, match="artifacts"):
        Workspace(tmp_path).prepare()


def test_a_build_that_was_not_composed_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not composed here"):
        read_locations(tmp_path)


def test_a_declared_build_is_not_published_in_silence_or_not_at_all(workspace: Path) -> None:
    words = ["model=bert-tiny", "register.name=tiny", "register.registry=models"]
    (workspace / "params.yaml").write_text(yaml.safe_dump({"builds": {"own": words}}), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"not published by dvc repro: builds\.own: .*registry add artifacts/own/package"
    ):
        compose_command.run(["own"])
    assert not (workspace / "artifacts").exists()


def test_a_declared_build_of_a_file_knows_its_content_and_keeps_its_place_apart(workspace: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "theirs", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), "theirs.onnx")
    words = ["model=bert-tiny", "exporter=file", "exporter.path=theirs.onnx"]
    (workspace / "params.yaml").write_text(yaml.safe_dump({"builds": {"own": words}}), encoding="utf-8")
    assert compose_command.run(["own"]) == 0
    folder = workspace / "artifacts" / "own"
    assert read_locations(folder) == {"graph": workspace / "theirs.onnx"}
    params = state.read_yaml(folder / "params.yaml")
    digest = sha256_file(workspace / "theirs.onnx")
    assert params["export"]["exporter"] == {"kind": "file", "graph": digest, "data": {}, "inputs": {}, "outputs": {}}
    assert params["optimize"]["optimization"]["kind"] == "none"
    assert str(workspace) not in (folder / "params.yaml").read_text(encoding="utf-8")


def test_a_stage_outside_a_build_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a build"):
        run_stage("export", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_why_compares_with_the_same_build_or_the_nearest(workspace: Path) -> None:
    params = stage_params(_tiny(workspace))
    other = stage_params(_tiny(workspace, "opset=17"))
    far = stage_params(_tiny(workspace, "opset=17", "session=edge", "validation=quick"))
    assert nearest("b", params, {"a": far, "b": other})[0] == "b"
    assert nearest("c", params, {"a": far, "b": other})[0] == "b"
    assert nearest("c", params, {}) == ("", {})


def test_why_tells_keys_files_tools_and_code_apart(workspace: Path) -> None:
    folder = _project(workspace)
    states = build_states(open_project(folder))
    params = stage_params(_tiny(workspace))["export"]
    code = next(iter(params["code"]))
    old = params | {
        "opset": {"version": 17},
        "code": params["code"] | {code: "0" * 16},
        "tools": params["tools"] | {"torch": "1.0"},
    }
    found = reasons(states[0], params, {"export": old}, states)
    assert f"code: {code}" in found
    assert "key: opset.version 17 -> 20" in found
    assert any(line.startswith("tool: torch 1.0 -> ") for line in found)
    assert reasons(states[0], params, {}, states) == ["it was never made"]


@pytest.mark.parametrize("present", ["file", "folder"])
def test_publish_refuses_to_replace_what_is_not_a_package(present: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if present == "folder":
        out.mkdir()
        (out / "notes.txt").write_text("mine", encoding="utf-8")
    else:
        out.write_text("mine", encoding="utf-8")
    with pytest.raises(HostError, match="is not a package"):
        publish(tmp_path / "package", out)
    assert out.exists()


def test_publish_writes_into_no_package(tmp_path: Path, package: Path) -> None:
    with pytest.raises(HostError, match="a package holds what was built, and no more"):
        publish(package, package / "inside")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text('{"name": "a web site"}')
    publish(package, tmp_path / "site" / "model")
    assert read_manifest(tmp_path / "site" / "model") == read_manifest(package)


def test_publish_leaves_the_old_package_when_the_new_one_is_damaged(tmp_path: Path) -> None:
    for name in ("new", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE_NAME).write_text("{}", encoding="utf-8")
    (tmp_path / "out" / "mark").write_text("old", encoding="utf-8")
    with pytest.raises(PackageError):
        publish(tmp_path / "new", tmp_path / "out")
    assert (tmp_path / "out" / "mark").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]
