"""The provider contract as checks: one that fails for each, and fallback that is allowed and seen."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_models import only_component

from modelbuild.checks.placement import examine, placement_checks
from modelbuild.checks.subject import Subject
from modelbuild.errors import HostError
from modelbuild.exporter_spec import PytorchExporter
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.model_spec import InitSource
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import Check, Report, read_report, write_report
from modelbuild.runtime.placement import Placement, node_placement
from modelbuild.runtime.session import SessionSettings
from modelbuild.spec import Opset, Providers, Session, Validation
from modelbuild.stage_spec import ExportSpec, StageModel, ValidateSpec
from modelbuild.stages import export
from modelbuild.tasks import TASKS

AZURE, CPU, CUDA = "AzureExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"
NAMES = ["providers", "placement", "time off provider", "copies"]
TINY = StageModel(
    source=InitSource(
        kind="init",
        architecture="BertModel",
        config={
            "vocab_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 16,
        },
    )
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(AZURE not in ort.get_available_providers(), reason="a provider without nodes is needed"),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer BERT as the export stage leaves it."""
    out = tmp_path_factory.mktemp("export")
    spec = ExportSpec(
        model=TINY, task="feature-extraction", opset=Opset(version=20), exporter=PytorchExporter(kind="dynamo")
    )
    export.run(spec, {}, out)
    return out


@pytest.fixture
def subject(exported: Path, tmp_path: Path) -> Subject:
    """That BERT as a subject of checks on the CPU, with a file of its own."""
    shutil.copytree(exported, tmp_path / "optimize")
    task = TASKS["feature-extraction"]
    reference = load_reference(TINY, task, None)
    return Subject(
        spec=ValidateSpec(
            model=TINY,
            task="feature-extraction",
            opset=Opset(version=20),
            precision=Fp32Precision(kind="fp32"),
            providers=Providers(order=("cpu",)),
            session=Session(intra_op_num_threads=1),
            validation=Validation(kind="quick", batch_sizes=(1, 2), sequence_lengths=(3, 40)),
        ),
        task=task,
        model_file=tmp_path / "optimize" / MODEL_FILE,
        exported_file=exported / MODEL_FILE,
        exported_facts={},
        graph=read_graph(exported / MODEL_FILE),
        sidecar=tmp_path,
        source=None,
        reference=reference,
        component=only_component(reference, task),
        limits={},
    )


def placed(subject: Subject, *names: str, allow_fallback: bool = False) -> Placement:
    """Where that BERT runs on providers that a build cannot ask for."""
    ids = np.ones((2, 8), dtype=np.int64)
    return node_placement(
        subject.model_file,
        providers=[(name, {}) for name in names],
        settings=SessionSettings(intra_op_num_threads=1),
        inputs=[dict.fromkeys(subject.interface.input_names(), ids)],
        allow_fallback=allow_fallback,
    )


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def with_providers(subject: Subject, providers: Providers) -> Subject:
    return replace(subject, spec=subject.spec.model_copy(update={"providers": providers}))


def test_a_model_on_the_cpu_keeps_the_contract_and_says_where_its_nodes_ran(subject: Subject, tmp_path: Path) -> None:
    checks = list(examine(subject))
    assert [check.name for check in checks] == NAMES
    assert all(check.passed and not check.where for check in checks)
    assert re.fullmatch(f"{CPU}: [1-9]\\d+ nodes", by_name(checks)["placement"].compared)
    assert [(check.worst, check.limit) for check in checks] == [(None, None), (0, 0), (0, None), (0, 8)]
    write_report(Report(stage="validate", checks=tuple(checks)), tmp_path / "report.json")
    assert read_report(tmp_path / "report.json").checks == tuple(checks)


def test_nodes_that_compute_off_the_provider_fail_and_are_named(subject: Subject) -> None:
    placement = by_name(list(placement_checks(placed(subject, AZURE))))["placement"]
    assert not placement.passed
    assert placement.limit == 0
    assert placement.worst is not None
    assert placement.worst > 10
    assert "MatMul x 8 (first: node_MatMul_" in placement.where
    assert f" on {CPU}" in placement.where
    assert " more" in placement.where
    assert re.fullmatch(f"{CPU}: \\d+ nodes, \\d+ of them not as asked, for shapes only", placement.compared)
    assert "placement: " in placement.line()


def test_the_time_off_the_provider_is_a_figure_and_no_verdict(subject: Subject) -> None:
    placement = placed(subject, AZURE)
    assert placement.time_off > 0
    check = by_name(list(placement_checks(replace(placement, time_off=0.9))))["time off provider"]
    assert check.passed
    assert (check.worst, check.limit) == (0.9, None)
    assert "MatMul" in check.where


def test_a_fallback_that_is_allowed_passes_and_is_seen(subject: Subject) -> None:
    checks = by_name(list(placement_checks(placed(subject, AZURE, allow_fallback=True))))
    assert all(check.passed for check in checks.values())
    assert checks["placement"].compared.endswith("; fallback was allowed and used")
    assert "MatMul x 8 (first: node_MatMul_" in checks["placement"].where
    assert checks["copies"].compared.endswith("; fallback was allowed")


def test_a_fallback_that_was_asked_for_passes(subject: Subject) -> None:
    checks = list(placement_checks(placed(subject, AZURE, "cpu")))
    assert all(check.passed and not check.where for check in checks)
    assert by_name(checks)["placement"].compared.startswith(f"{CPU}: ")


def test_a_session_without_a_provider_or_in_another_order_fails(subject: Subject) -> None:
    placement = placed(subject, AZURE, "cpu")
    for active in ((CPU,), (CPU, AZURE)):
        check = by_name(list(placement_checks(replace(placement, active=active))))["providers"]
        assert not check.passed
        assert check.where == f"asked: {AZURE}, {CPU}; session: {', '.join(active)}"


def test_copies_beyond_two_for_each_input_and_output_fail(subject: Subject) -> None:
    placement = placed(subject, "cpu")
    allowed, beyond = (
        by_name(list(placement_checks(replace(placement, copies=copies))))["copies"] for copies in (8, 9)
    )
    assert allowed.passed
    assert not beyond.passed
    assert beyond.line() == "copies: 9 (limit 8) at 9 Memcpy nodes for 4 inputs and outputs"


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="CUDA may load here")
def test_a_provider_that_is_not_here_is_an_error_and_no_check(subject: Subject) -> None:
    with pytest.raises(HostError, match=f"{CUDA} is not available"):
        list(examine(with_providers(subject, Providers(order=("cuda",)))))


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="CUDA may load here")
def test_a_provider_that_is_not_here_may_be_missed_where_fallback_is_allowed(subject: Subject) -> None:
    checks = by_name(list(examine(with_providers(subject, Providers(order=("cuda",), allow_fallback=True)))))
    assert all(check.passed for check in checks.values())
    assert checks["providers"].where == f"asked: {CUDA}; session: {CPU}"
    assert checks["providers"].compared.endswith("; fallback was allowed and used")
    assert "MatMul" in checks["placement"].where


def test_a_model_that_does_not_run_fails(subject: Subject) -> None:
    model = onnx.load(subject.model_file)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, subject.model_file)
    (check,) = examine(subject)
    assert (check.name, check.passed) == ("placement", False)
    assert "these inputs do not run: " in check.where
    assert check.compared == "where nodes run, on no padding, left padding"
