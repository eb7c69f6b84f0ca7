from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from modelbuild.config.compose import compose
from modelbuild.config.location import packaged
from modelbuild.model_spec import PathSource
from modelbuild.pipeline import fingerprint
from modelbuild.pipeline.fingerprint import host, stage_code, stage_tools
from modelbuild.pipeline.project import stage_params
from modelbuild.resolve import ResolvedBuild, resolve
from modelbuild.spec import BuildSpec, Session
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import GraphFiles, LibraryFile
from modelbuild.stages import STAGES
from modelbuild.strict import Strict

Params = dict[str, dict[str, Any]]
CACHES = (fingerprint._closure, fingerprint._imports, fingerprint._content, fingerprint._version)
EVERY_STAGE = set(STAGES)
OF_THE_MODEL = EVERY_STAGE - {"optimize"}

# What each config group changes. Optimize sees the model, task and opset in the graph that it is given.
INVALIDATED: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "model": (("model=init", "model.source.architecture=BertModel"), OF_THE_MODEL),
    "task": (("task=fill-mask",), OF_THE_MODEL),
    "opset": (("opset=17",), {"export", "validate", "package"}),
    "exporter": (("exporter=optimum",), {"export", "package"}),
    "sidecar": (("sidecar=off",), {"sidecar", "package"}),
    "optimization": (("optimization=basic",), {"optimize", "package"}),
    "precision": (("precision=int8",), {"optimize", "validate", "package"}),
    "providers": (("providers=cuda",), {"validate", "benchmark", "package"}),
    "session": (("session=edge",), {"validate", "benchmark", "package"}),
    "validation": (("validation=quick",), {"validate", "package"}),
    "benchmark": (("benchmark=full",), {"benchmark", "package"}),
}
BY_KEY = [
    ("model.source.seed=1", OF_THE_MODEL),
    ("model.name=other", {"package"}),
    ("session.intra_op_num_threads=2", {"validate", "benchmark", "package"}),
    ("benchmark.runs=5", {"benchmark", "package"}),
    ("benchmark.sequence_lengths=[16]", {"benchmark", "package"}),
    ("benchmark.loads=7", {"benchmark", "package"}),
    ("benchmark.compile=true", {"benchmark", "package"}),
    ("optimization.require_fusion=true", {"optimize", "package"}),
    ("session.auto=true", {"optimize", "validate", "benchmark", "package"}),
    ("validation.seed=5", {"validate", "package"}),
    ("out=elsewhere", set()),
    ("debug=true", set()),
]


def forget() -> None:
    for remembered in CACHES:
        remembered.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package's source, which fingerprints are taken of."""
    copied = tmp_path / "modelbuild"
    shutil.copytree(fingerprint._ROOT, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "_ROOT", copied)
    yield copied
    forget()


@cache
def tiny(*overrides: str) -> ResolvedBuild:
    """The tiny build, composed from the configuration that modelbuild brings."""
    return resolve(compose(["model=bert-tiny", *overrides], packaged("conf")).spec, lambda path: "")


def specs(*overrides: str) -> dict[str, Strict]:
    return stage_specs(tiny(*overrides), host())


def code(stages: dict[str, Strict]) -> dict[str, dict[str, str]]:
    forget()
    return {stage: stage_code(stage, spec) for stage, spec in stages.items()}


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    assert list(one) == list(other) == list(STAGES)
    return {stage for stage in one if one[stage] != other[stage]}


def append(path: Path, text: str = "# a comment\n") -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_every_group_is_in_the_table() -> None:
    assert set(BuildSpec.model_fields) == set(INVALIDATED)


@pytest.mark.parametrize("group", INVALIDATED)
def test_a_config_group_invalidates_the_stages_that_depend_on_it_and_no_other(group: str) -> None:
    overrides, stages = INVALIDATED[group]
    assert differing(stage_params(tiny()), stage_params(tiny(*overrides))) == stages


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("config.json", OF_THE_MODEL),
        ("model.safetensors", {"export", "validate", "benchmark", "package"}),
        ("vocab.txt", {"sidecar", "validate", "package"}),
    ],
)
def test_a_file_of_the_model_invalidates_the_stages_that_read_it_and_no_other(name: str, stages: set[str]) -> None:
    build, source = tiny(), PathSource(kind="path", path="/model")
    model = build.spec.model.model_copy(update={"source": source})
    build = replace(build, spec=build.spec.model_copy(update={"model": model}))
    located = replace(build.located, files=dict.fromkeys(["config.json", "model.safetensors", "vocab.txt"], "0" * 64))
    changed = replace(located, files={**located.files, name: "1" * 64})
    before, after = (stage_params(replace(build, located=found)) for found in (located, changed))
    assert differing(before, after) == stages


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"graph": "1" * 64}, {"export", "package"}),
        ({"data": {"weights": "1" * 64}}, {"export", "package"}),
        ({"inputs": {"input_ids": "ids"}}, {"export"}),
        ({"outputs": {"last_hidden_state": "hidden"}}, {"export"}),
    ],
    ids=str,
)
def test_a_file_of_another_content_or_with_other_names_is_exported_again(
    change: dict[str, Any], stages: set[str]
) -> None:
    own = GraphFiles(kind="file", graph="0" * 64, data={}, inputs={}, outputs={})
    before, after = (replace(tiny(), exporter=graph) for graph in (own, own.model_copy(update=change)))
    assert differing(stage_params(before), stage_params(after)) == stages


@pytest.mark.parametrize(("exporter", "stages"), [("dynamo", set()), ("file", {"export"})])
@pytest.mark.parametrize("change", [{"sha256": "1" * 64}, {"name": "other.so"}], ids=str)
def test_a_library_of_another_content_invalidates_the_stages_that_open_sessions(
    exporter: str, stages: set[str], change: dict[str, str]
) -> None:
    own = GraphFiles(kind="file", graph="0" * 64, data={}, inputs={}, outputs={})
    build = replace(tiny(), exporter=own) if exporter == "file" else tiny()
    library = LibraryFile(name="mine.so", sha256="0" * 64)
    before, after = (replace(build, custom_ops=(found,)) for found in (library, library.model_copy(update=change)))
    opening = {"optimize", "validate", "benchmark", "package"}
    assert differing(stage_params(before), stage_params(after)) == opening | stages


def test_where_a_library_is_changes_no_stage() -> None:
    paths, library = ("/here/mine.so", "/there/mine.so"), LibraryFile(name="mine.so", sha256="0" * 64)
    specs = [tiny().spec.model_copy(update={"session": Session(custom_ops=(path,))}) for path in paths]
    here, there = (replace(tiny(), custom_ops=(library,), spec=spec) for spec in specs)
    assert stage_params(here) == stage_params(there)
    assert [build.locations()["custom_ops/mine.so"] for build in (here, there)] == [Path(path) for path in paths]


@pytest.mark.parametrize(("override", "stages"), BY_KEY)
def test_a_key_invalidates_the_stages_that_depend_on_it_and_no_other(override: str, stages: set[str]) -> None:
    assert differing(stage_params(tiny()), stage_params(tiny(override))) == stages


def test_the_parameters_of_a_stage_are_the_same_when_nothing_changed() -> None:
    assert stage_params(tiny()) == stage_params(tiny("opset=20", "session=latency"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_comment_in_the_source_of_a_stage_changes_that_stage_alone(stage: str, package: Path) -> None:
    stages = specs()
    before = code(stages)
    append(package / "stages" / f"{stage}.py")
    assert differing(before, code(stages)) == {stage}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("errors.py", EVERY_STAGE),
        ("spec.py", EVERY_STAGE),
        ("reference.py", {"export", "sidecar", "validate", "benchmark"}),
        ("graph.py", EVERY_STAGE - {"sidecar", "benchmark"}),
        ("samples.py", EVERY_STAGE),
        ("runtime/session.py", {"optimize", "validate", "benchmark", "package"}),
        ("runtime/cores.py", {"optimize", "validate", "benchmark", "package"}),
        ("runtime/custom_ops.py", {"optimize", "validate", "benchmark", "package"}),
        ("runtime/trial.py", set()),
        ("operator_libraries.py", EVERY_STAGE - {"sidecar"}),
        ("runtime/load.py", {"package"}),
        ("parity.py", {"validate"}),
        ("measure/statistics.py", {"benchmark"}),
        ("measure/child.py", {"benchmark"}),
        ("measure/beside.py", {"benchmark"}),
        ("measure/loading.py", {"benchmark"}),
        ("measure/presets.py", {"benchmark"}),
        ("render/report.html.j2", {"package"}),
        ("render/terminal.py", set()),
        ("families/text.py", {"export", "validate", "benchmark"}),
        ("families/causal_lm.py", set()),
        ("decoding/follow.py", {"validate"}),
        ("exporters/dynamo.py", {"export"}),
        ("exporters/optimum.py", set()),
        ("candidates/transformer.py", {"optimize", "validate"}),
        ("fusions/dynamo.py", {"optimize", "validate"}),
        ("fusions/attention_mask.py", {"optimize", "validate"}),
        ("fusions/torchscript.py", {"optimize", "validate"}),
        ("candidates/ort_level.py", {"optimize", "validate"}),
        ("candidates/unchanged.py", {"validate"}),
        ("optimization/asked.py", {"optimize"}),
        ("optimization/search.py", set()),
        ("optimization/reduction.py", set()),
        ("optimization/sessions.py", set()),
        ("precisions/int8.py", set()),
        ("session_presets.py", {"validate", "benchmark", "package"}),
        ("cli.py", set()),
        ("commands/build.py", set()),
        ("config/compose.py", set()),
        ("pipeline/worker.py", set()),
        ("stages/__init__.py", set()),
    ],
)
def test_a_change_of_a_module_reaches_the_stages_that_run_it(file: str, stages: set[str], package: Path) -> None:
    built = specs()
    before = code(built)
    append(package / file, "# a comment\n" if file.endswith(".py") else "\n")
    assert differing(before, code(built)) == stages


@pytest.mark.parametrize("variants", ["exporters", "candidates", "precisions", "families", "decoding"])
def test_a_new_variant_changes_no_other(variants: str, package: Path) -> None:
    stages = specs()
    before = code(stages)
    (package / variants / "new.py").write_text("import torch\n")
    append(package / variants / "__init__.py", f'X = {{"new": "modelbuild.{variants}.new"}}\n')
    assert code(stages) == before


def test_a_build_depends_on_the_variant_that_it_chose_and_on_no_other() -> None:
    for exporter, other in (("dynamo", "optimum"), ("optimum", "dynamo")):
        found = code(specs(f"exporter={exporter}"))["export"]
        assert f"exporters/{exporter}.py" in found
        assert f"exporters/{other}.py" not in found
    assert "candidates/transformer.py" not in code(specs("optimization=none"))["optimize"]
    decoder = code(specs("model=gpt2-tiny", "task=text-generation"))
    assert {stage for stage in decoder if "decoding/causal.py" in decoder[stage]} == {"validate"}
    assert "decoding/causal.py" not in code(specs())["validate"]


def test_imports_inside_functions_and_of_a_module_from_its_package_are_followed(package: Path) -> None:
    stages = specs()
    append(package / "stages" / "sidecar.py", "def late() -> None:\n    from modelbuild.pipeline import journal\n")
    append(package / "pipeline" / "journal.py", "import modelbuild.locks\n")
    assert {"pipeline/journal.py", "locks.py"} <= set(code(stages)["sidecar"])


def imported_by_stages() -> dict[str, set[str]]:
    """The top-level names of other people's modules that the code of each stage imports, over all variants."""
    variants = [specs(f"exporter={name}") for name in ("dynamo", "optimum")]
    own = GraphFiles(kind="file", graph="0" * 64, data={}, inputs={}, outputs={})
    variants.append(stage_specs(replace(tiny(), exporter=own), host()))
    variants += [specs(f"optimization={name}") for name in ("none", "basic", "transformer")]
    variants.append(stage_specs(replace(tiny(), task="text-to-image"), host()))
    found: dict[str, set[str]] = {stage: set() for stage in STAGES}
    for stage, spec in (item for stages in variants for item in stages.items()):
        for path in fingerprint._closure(fingerprint.entry_modules(stage, spec)):
            found[stage] |= set(fingerprint._imports(path)[1]) if path.suffix == ".py" else set()
    return {stage: names - set(sys.stdlib_module_names) for stage, names in found.items()}


def test_every_library_that_a_stage_imports_has_a_version_in_its_fingerprint() -> None:
    found = imported_by_stages()
    assert set().union(*found.values()) <= set(fingerprint._DISTRIBUTIONS)
    assert {"torch", "transformers", "onnx_ir", "onnxscript", "optimum"} <= found["export"]
    assert "torch" not in found["package"]


def test_no_library_is_listed_that_no_stage_imports_or_that_is_not_installed() -> None:
    assert set().union(*imported_by_stages().values()) >= set(fingerprint._DISTRIBUTIONS)
    missing = {
        name for names in fingerprint._DISTRIBUTIONS.values() for name in names if not fingerprint._version(name)
    }
    assert missing <= {"onnxruntime", "onnxruntime-gpu"}


def test_optimums_version_matters_only_where_optimum_exports() -> None:
    assert "optimum" not in stage_tools("export", specs()["export"])
    tools = stage_tools("export", specs("exporter=optimum")["export"])
    assert {"optimum", "optimum-onnx", "torch", "transformers", "python"} <= set(tools)


@pytest.mark.parametrize(
    ("distribution", "stages"),
    [
        ("onnxscript", {"export", "optimize", "validate", "package"}),
        ("jinja2", {"package"}),
        ("tokenizers", {"export", "sidecar", "validate", "benchmark", "package"}),
        ("dvc", set()),
    ],
)
def test_another_version_of_a_tool_changes_the_stages_that_use_it(
    distribution: str, stages: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stage_params(tiny())
    metadata = tmp_path / f"{distribution}-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    try:
        assert differing(before, stage_params(tiny())) == stages
    finally:
        forget()


@pytest.mark.parametrize(("providers", "stages"), [("cpu", {"benchmark"}), ("cuda", {"benchmark", "validate"})])
def test_the_machine_is_part_of_the_benchmark_and_of_a_verdict_on_other_providers(
    providers: str, stages: set[str]
) -> None:
    build = tiny(f"providers={providers}")
    assert differing(stage_specs(build, host()), stage_specs(build, host() | {"cores": "0"})) == stages


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """What an NVIDIA driver shows of itself under /proc, with two GPUs."""
    folder = tmp_path / "nvidia"
    for bus, model in (("0000:0f:00.0", "NVIDIA H100 80GB HBM3"), ("0000:04:00.0", "NVIDIA A10")):
        (folder / "gpus" / bus).mkdir(parents=True)
        (folder / "gpus" / bus / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 17\n")
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version:\n"
    )
    return folder


def test_a_host_without_an_nvidia_driver_is_named_by_its_processor_alone(tmp_path: Path) -> None:
    assert set(host(tmp_path / "none")) == {"machine", "processor", "cores"}


def test_a_host_with_an_nvidia_driver_is_named_by_its_gpus_and_what_runs_models_on_them(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia_cudnn_cu99", "tensorrt-cu99", "onnxruntime-gpu"):
        metadata = tmp_path / "site" / f"{name}-99.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = host(driver)
    assert found["gpus"] == "NVIDIA A10, NVIDIA H100 80GB HBM3"
    assert found["driver"] == "535.129.03"
    assert {found[name] for name in ("nvidia_cudnn_cu99", "tensorrt-cu99", "onnxruntime-gpu")} == {"99.0"}
    assert host(tmp_path / "none").items() < found.items()
    assert "torch" not in found


@pytest.mark.parametrize("file", ["version", "gpus/0000:04:00.0/information"])
def test_another_driver_or_gpu_is_another_host(file: str, driver: Path) -> None:
    before = host(driver)
    text = (driver / file).read_text()
    (driver / file).write_text(text.replace("535.129.03", "570.86.15").replace("A10", "L4"))
    build = tiny("providers=cuda")
    assert differing(stage_specs(build, before), stage_specs(build, host(driver))) == {"benchmark", "validate"}


def test_a_driver_whose_files_cannot_be_read_as_expected_is_still_a_host(driver: Path) -> None:
    (driver / "version").write_text("unheard of\n")
    assert host(driver)["driver"] == "unheard of"
    (driver / "version").unlink()
    shutil.rmtree(driver / "gpus")
    assert (host(driver)["driver"], host(driver)["gpus"]) == ("", "")
