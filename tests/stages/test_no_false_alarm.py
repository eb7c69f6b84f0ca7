"""No false alarm: correct builds of many kinds pass validation=strict, as `conf/validation/strict.yaml` has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import yaml
from pydantic import JsonValue

from modelbuild.config.location import packaged
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.model_spec import InitSource
from modelbuild.precision_spec import Fp32Precision
from modelbuild.report import Report, write_report
from modelbuild.spec import Opset, Optimization, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import ExportSpec, OptimizeSpec, SidecarSpec, StageModel, ValidateSpec
from modelbuild.stages import export, optimize, sidecar, validate
from modelbuild.tasks import TASKS, TaskName

Config = dict[str, JsonValue]
# The tasks of one pass over one text, which every encoder has a head for.
HEADS = [name for name, task in TASKS.items() if not task.choices and task.family == "text"]

SIZES: Config = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
# DistilBERT has other names for the same.
DISTILBERT: Config = {
    "vocab_size": 120,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 40,
}
NARROW: Config = SIZES | {"embedding_size": 16}
# One token type, as the published checkpoints have it.
UNTYPED: Config = SIZES | {"type_vocab_size": 1}
MODELS: dict[str, Config] = {
    "BertModel": SIZES,
    "DistilBertModel": DISTILBERT,
    "RobertaModel": UNTYPED,
    "ElectraModel": NARROW,
    "AlbertModel": NARROW,
    "MPNetModel": SIZES,
    "CamembertModel": UNTYPED,
    "XLMRobertaModel": UNTYPED,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One export, and the optimizations that are built from it."""

    model: str
    task: TaskName
    exporter: str
    opset: int
    seed: int
    optimizations: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model}-{self.task}-{self.exporter}-{self.opset}"


def _case(model: str, task: TaskName, exporter: str, opset: int, seed: int, *optimizations: str) -> Case:
    return Case(model=model, task=task, exporter=exporter, opset=opset, seed=seed, optimizations=optimizations)


CASES = (
    _case("BertModel", "feature-extraction", "dynamo", 17, 0, "none", "basic", "extended", "transformer"),
    _case("BertModel", "question-answering", "optimum", 18, 1, "none", "extended", "transformer"),
    _case("DistilBertModel", "text-classification", "dynamo", 18, 2, "none", "transformer"),
    _case("DistilBertModel", "fill-mask", "optimum", 20, 3, "basic", "transformer"),
    _case("RobertaModel", "token-classification", "dynamo", 20, 4, "none", "basic", "transformer"),
    _case("RobertaModel", "text-classification", "optimum", 17, 5, "none", "extended", "transformer"),
    _case("ElectraModel", "fill-mask", "dynamo", 21, 6, "none", "basic", "extended", "transformer"),
    _case("ElectraModel", "token-classification", "optimum", 20, 7, "none", "transformer"),
    _case("AlbertModel", "question-answering", "dynamo", 17, 8, "basic", "transformer"),
    _case("AlbertModel", "feature-extraction", "optimum", 18, 9, "none", "basic", "extended"),
    _case("MPNetModel", "text-classification", "dynamo", 21, 10, "basic", "extended", "transformer"),
    _case("MPNetModel", "feature-extraction", "optimum", 17, 11, "none", "basic", "transformer"),
    _case("CamembertModel", "feature-extraction", "dynamo", 18, 12, "basic", "extended", "transformer"),
    _case("CamembertModel", "fill-mask", "optimum", 20, 13, "none", "extended"),
    _case("XLMRobertaModel", "question-answering", "dynamo", 20, 14, "none", "extended", "transformer"),
    _case("XLMRobertaModel", "token-classification", "optimum", 18, 15, "none", "extended"),
)
BUILDS = [(case, optimization) for case in CASES for optimization in case.optimizations]
# Random weights as transformers draws them (0.02) leave attention nearly uniform; larger ones do not.
SPREAD = (0.02, 0.3)


def _model(case: Case) -> StageModel:
    config = MODELS[case.model] | {"initializer_range": SPREAD[case.seed % len(SPREAD)]}
    return StageModel(source=InitSource(kind="init", architecture=case.model, config=config, seed=case.seed))


def _strict() -> Validation:
    said = yaml.safe_load(packaged("conf/validation/strict.yaml").read_text(encoding="utf-8"))
    return Validation.model_validate(said, strict=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], dict[str, Path]]]:
    """What the stages export and sidecar give for a case, made when it is first asked for."""

    @cache
    def make(case: Case) -> dict[str, Path]:
        folders = {name: tmp_path_factory.mktemp(name) for name in ("export", "sidecar")}
        model = _model(case)
        to_onnx = ExportSpec(
            model=model,
            task=case.task,
            opset=Opset.model_validate({"version": case.opset}),
            exporter=PytorchExporter.model_validate({"kind": case.exporter}),
        )
        beside = SidecarSpec(model=model, task=case.task, sidecar=Sidecar(kind="auto"))
        write_report(export.run(to_onnx, {}, folders["export"]), folders["export"] / "report.json")
        write_report(sidecar.run(beside, {}, folders["sidecar"]), folders["sidecar"] / "report.json")
        return folders

    yield make
    make.cache_clear()


def _built(case: Case, optimization: str, folders: dict[str, Path], out: Path) -> Report:
    """The report of validation=strict on one build, optimized into `out`."""
    precision = Fp32Precision(kind="fp32")
    chosen = Optimization.model_validate({"kind": optimization})
    write_report(
        optimize.run(OptimizeSpec(optimization=chosen, precision=precision), folders, out), out / "report.json"
    )
    spec = ValidateSpec(
        model=_model(case),
        task=case.task,
        opset=Opset.model_validate({"version": case.opset}),
        precision=precision,
        providers=Providers(order=("cpu",)),
        session=Session(),
        validation=_strict(),
    )
    return validate.run(spec, folders | {"optimize": out}, out)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "optimization"), BUILDS, ids=[f"{case}-{name}" for case, name in BUILDS])
def test_a_correct_build_passes_strict_validation(
    case: Case, optimization: str, exported: Callable[[Case], dict[str, Path]], tmp_path: Path
) -> None:
    report = _built(case, optimization, exported(case), tmp_path)
    assert report.passed, [check.line() for check in report.failures()]
    names = {check.name for check in report.checks}
    assert {f"parity.{output}" for output in TASKS[case.task].output_names()} < names


def test_the_builds_are_of_every_kind_and_of_nearly_every_pair_of_kinds() -> None:
    exporters, opsets, kinds = ("dynamo", "optimum"), (17, 18, 20, 21), ("none", "basic", "extended", "transformer")
    assert len(BUILDS) >= 36
    assert {(case.model, case.exporter) for case in CASES} == set(product(MODELS, exporters))
    assert {(case.task, case.exporter) for case in CASES} == set(product(HEADS, exporters))
    assert {(case.opset, case.exporter) for case in CASES} == {*product(opsets, exporters)} - {(21, "optimum")}
    assert {(case.exporter, optimization) for case, optimization in BUILDS} == set(product(exporters, kinds))
    assert {(case.opset, optimization) for case, optimization in BUILDS} == set(product(opsets, kinds))
    assert {(case.task, optimization) for case, optimization in BUILDS} == set(product(HEADS, kinds))
    assert {case.seed for case in CASES} == set(range(len(CASES)))
