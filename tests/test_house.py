from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import modelbuild
from modelbuild.candidates import CANDIDATES
from modelbuild.config.location import groups, packaged
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.exporters import EXPORTERS
from modelbuild.pipeline import STAGE_INPUTS
from modelbuild.providers import PROVIDERS
from modelbuild.resolve import ResolvedBuild
from modelbuild.sources import Located
from modelbuild.spec import BuildSpec, Opset, Providers
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import SPECS
from modelbuild.stages import STAGES
from modelbuild.tasks import TASKS

ROOT = Path(modelbuild.__file__).parent
TOP = ROOT.parent
NO_ROOM_FOR = {"utils", "helpers", "common", "core", "base", "manager"}
MODULE_LINES, FUNCTION_LINES = 250, 60
# One flat list of types, which all know each other; and texts.
LONGER = {"spec": 300, "sentences": 500}

# The rooms of the house, from the ground up. A module imports from rows below its own, and from its own room.
ROWS = (
    (
        "",
        "errors",
        "suggest",
        "digest",
        "config.location",
        "model_files",
        "kinds",
        "locks",
        "sentences",
        "quick_imports",
        "quick_rules",
    ),
    (
        "arguments",
        "split_slices",
        "source_lines",
        "digest_cache",
        "single_precision",
        "mapped_weights",
        "capture",
        "own_process",
    ),
    ("signature", "providers", "session_keys", "report", "masks", "config_fields", "weights", "hierarchy", "node_tags"),
    ("strict",),
    ("interface",),
    ("tasks", "sizes"),
    ("samples", "model_spec", "precision_spec", "provider_options", "exporter_spec"),
    ("spec", "manifest", "parity", "checkpoint", "model_config", "weight_files", "batches", "text_limits", "scopes"),
    ("package_files",),
    (
        "registry",
        "signing",
        "attestation",
        "agreement",
        "reduced",
        "session_presets",
        "tagging",
        "module_code",
        "module_weights",
        "diffusers_folder",
    ),
    ("stage_spec", "accuracy", "package_folder"),
    ("architectures", "component", "module_loading", "module_config", "module_source", "diffusers_reference"),
    ("diffusers_configs",),
    ("families",),
    ("sources", "reference", "tokenizer", "image_processor", "spectrograms", "generation", "graph"),
    ("runtime", "decoding", "real_text"),
    (
        "graph_diff",
        "graph_source",
        "operator_libraries",
        "graph_match",
        "golden_text",
        "fusions",
        "golden_image",
        "precisions",
    ),
    ("exporters", "candidates", "measure", "resolve", "preflight", "render", "checks"),
    ("diagnosis", "optimization", "stage_slices", "package_diff", "deployment"),
    ("stages",),
    ("config", "pipeline"),
    ("render.terminal", "render.diff"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
ROW = {room: number for number, rooms in enumerate(ROWS) for room in rooms}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name inside it; a package is its `__init__`, the package itself is ``."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_bytes())


def room(module: str) -> str:
    """The entry of the table that a module belongs to: its own, or the nearest package's."""
    while module not in ROW and "." in module:
        module = module.rpartition(".")[0]
    return module


def imported(module: str) -> set[str]:
    """The modules of ours that one imports anywhere in its text, and those that it names to have them imported."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inside = {name for name in names if name.removeprefix("modelbuild.") in modules()}
            found |= inside | ({str(node.module)} if names - inside else set())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.]+", node.value):
            found |= {node.value}
    ours = {name.removeprefix("modelbuild.") for name in found if name.startswith("modelbuild.")}
    return ours & modules().keys() - {module}


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (item for item in ast.walk(node) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_row_and_imports_only_from_rows_below_and_its_own_room(module: str) -> None:
    assert room(module) in ROW
    wrong = {name for name in imported(module) if room(name) != room(module) and ROW[room(name)] >= ROW[room(module)]}
    assert not wrong


def test_every_row_has_modules_and_imports_go_in_no_circle() -> None:
    assert {room(module) for module in modules()} == set(ROW)
    left = {module: imported(module) for module in modules() if modules()[module].name != "__init__.py"}
    while ready := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in ready:
            del left[module]
    assert not left


@pytest.mark.parametrize("module", modules())
def test_imports_are_absolute_for_the_fingerprint_follows_no_others(module: str) -> None:
    assert not [node for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("module", modules())
def test_modules_and_functions_are_short(module: str) -> None:
    assert len(modules()[module].read_text(encoding="utf-8").splitlines()) <= LONGER.get(module, MODULE_LINES)
    long = {item.name for item in functions(tree(module)) if (item.end_lineno or 0) - item.lineno >= FUNCTION_LINES}
    assert not long


@pytest.mark.parametrize("module", modules())
def test_a_module_is_named_after_what_it_does_and_swallows_no_error(module: str) -> None:
    assert not NO_ROOM_FOR & {part.strip("_") for part in module.split(".")}
    handlers = [node for node in ast.walk(tree(module)) if isinstance(node, ast.ExceptHandler)]
    assert all(node.type is not None for node in handlers)
    assert not [node.lineno for node in handlers if isinstance(node.body[0], ast.Pass)]


@pytest.mark.parametrize("package", [name for name, path in modules().items() if path.name == "__init__.py"])
def test_the_init_of_a_package_holds_tables_and_protocols_and_no_code(package: str) -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.ClassDef, ast.If, ast.Expr)
    assert all(isinstance(node, allowed) for node in tree(package).body)
    for node in tree(package).body:
        if isinstance(node, ast.ClassDef):
            assert [ast.unparse(parent) for parent in node.bases] == ["Protocol"]
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant)
    inside = {item.name for node in tree(package).body if isinstance(node, ast.ClassDef) for item in functions(node)}
    assert {item.name for item in functions(tree(package))} == inside


def stages_in_dvc() -> dict[str, Any]:
    declared: dict[str, Any] = yaml.safe_load(packaged("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage["do"] for name, stage in declared.items() if name != "compose"}


def modules_of(package: str) -> set[str]:
    return {name.removeprefix(f"{package}.") for name in modules() if name.startswith(f"{package}.")}


def test_a_stage_has_one_name_everywhere_and_one_order() -> None:
    values = {
        "model": {"name": "tiny", "source": {"kind": "init", "architecture": "BertModel"}},
        "task": {"name": "auto"}, "opset": {"version": 18}, "exporter": {"kind": "dynamo"}, "sidecar": {"kind": "off"},
        "optimization": {"kind": "none"}, "precision": {"kind": "fp32"}, "providers": {"order": ("cpu",)},
        "session": {}, "validation": {"kind": "off"}, "benchmark": {"kind": "off"},
    }  # fmt: skip
    build = ResolvedBuild(
        spec=BuildSpec.model_validate(values),
        task="fill-mask",
        located=Located(folder=None, files={}, origin={}, config={}),
        exporter=PytorchExporter(kind="dynamo"),
    )
    assert list(STAGES) == list(STAGE_INPUTS) == list(stages_in_dvc()) == list(stage_specs(build, {}))
    assert {name: f"modelbuild.stages.{name}" for name in STAGES} == STAGES
    assert list(SPECS) == list(STAGES)
    assert set(STAGES) | {"off", "which"} == modules_of("stages")


@pytest.mark.parametrize("name", STAGES)
def test_dvc_runs_a_stage_by_its_name_on_what_it_reads_and_keeps_what_it_writes(name: str) -> None:
    stage = stages_in_dvc()[name]
    assert stage["cmd"] == f"exec python -m modelbuild stage {name}"
    assert stage["params"] == [name]
    assert {path.partition("/")[0] for path in stage.get("deps", [])} == set(STAGE_INPUTS[name])
    kept = [
        next(iter(out)) if isinstance(out, dict) else out
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    ]
    assert {path.partition("/")[0] for path in kept} == {name}


def test_the_inputs_of_a_stage_come_before_it() -> None:
    order = list(STAGE_INPUTS)
    assert all(order.index(name) < order.index(stage) for stage, names in STAGE_INPUTS.items() for name in names)


def test_a_config_group_is_a_field_of_a_build_and_a_folder() -> None:
    assert set(groups(TOP)) - {"build"} == set(BuildSpec.model_fields)


def test_the_choices_of_a_group_are_the_variants_that_there_are() -> None:
    choices = groups(TOP)
    assert set(choices["task"]) == {"auto", *TASKS}
    assert set(choices["exporter"]) == set(EXPORTERS) == modules_of("exporters")
    assert set(choices["optimization"]) == {*CANDIDATES, "auto"}
    assert {name.rpartition(".")[2] for name in CANDIDATES.values()} == modules_of("candidates")
    assert set(choices["providers"]) == set(PROVIDERS) == set(Providers.model_fields) - {"order", "allow_fallback"}
    assert set(choices["opset"]) == {str(version) for version in get_args(Opset.model_fields["version"].annotation)}


def test_a_choice_is_called_what_it_chooses() -> None:
    for group in set(groups(TOP)) - {"build"}:
        for choice in groups(TOP)[group]:
            said = yaml.safe_load(packaged(f"conf/{group}/{choice}.yaml").read_text(encoding="utf-8"))
            assert str(said.get("kind", said.get("name", said.get("version", choice)))) == choice


def test_what_a_package_needs_where_it_is_deployed_is_numpy_and_an_onnxruntime() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=~! ]", requirement)[0] for requirement in project["dependencies"]]
    assert names == ["numpy"]
    assert [name.partition("==")[0] for name in project["optional-dependencies"]["cpu"]] == ["onnxruntime"]
    assert [name.partition("==")[0] for name in project["optional-dependencies"]["gpu"]] == ["onnxruntime-gpu"]
