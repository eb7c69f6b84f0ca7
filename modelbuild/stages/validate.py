"""validate: the file that ships against unmodified PyTorch, under the session and providers that it will run with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from modelbuild.checks import CheckModule, bounds, interface, invariance, placement, sidecar, tokenizer, weights
from modelbuild.checks.numbers import Numbers, compare_all
from modelbuild.checks.runs import Runs
from modelbuild.checks.subject import Subject
from modelbuild.diagnosis.diagnose import diagnose
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.reference import input_names, load_reference
from modelbuild.report import Check, Report, read_report
from modelbuild.samples import limits_of
from modelbuild.stage_spec import ValidateSpec
from modelbuild.tasks import OPTIONAL_INPUTS, TASKS

SPEC = ValidateSpec
REPORT: str | None = "validation.json"

# What needs no session on the graph, in the order in which it is shown.
CHECKS: tuple[CheckModule, ...] = (sidecar, tokenizer, weights)


def run(spec: ValidateSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Compare, and report every check; a check that fails is in the report, and package refuses because of it.

    A graph whose interface is wrong is not run: what it would be fed is not known.
    """
    if spec.validation.kind == "off":
        return Report(stage="validate", facts={"status": "off"}, metrics={"checks": 0, "failed": 0})
    subject = _subject(spec, inputs)
    checks = list(interface.examine(subject))
    runnable = all(check.passed for check in checks)
    checks += [check for module in CHECKS for check in module.examine(subject)]
    facts: dict[str, Any] = {"status": spec.validation.kind, "seed": spec.validation.seed, "torch": torch.__version__}
    if runnable:
        runs = Runs(subject)
        numbers = compare_all(runs)
        checks += numbers.checks
        facts |= {
            "pytorch_own_error": {name: usual.error for name, usual in runs.usual.items()},
            "batches": _batches(numbers),
        }
        if numbers.runs:
            checks += [*invariance.examine(runs), *bounds.examine(runs), *placement.examine(subject)]
        if numbers.failing:
            optimization = read_report(inputs["optimize"] / "report.json").facts["optimization"]
            facts["diagnosis"] = asdict(diagnose(runs, numbers, optimization, out))
    return Report(stage="validate", checks=tuple(checks), facts=facts, metrics=_metrics(checks))


def _subject(spec: ValidateSpec, inputs: Mapping[str, Path]) -> Subject:
    task = TASKS[spec.task]
    reference = load_reference(spec.model, task, inputs.get("source"))
    taken = read_graph(inputs["export"] / MODEL_FILE).signature.input_names()
    return Subject(
        spec=spec,
        task=task,
        model_file=inputs["optimize"] / MODEL_FILE,
        exported_file=inputs["export"] / MODEL_FILE,
        graph=read_graph(inputs["optimize"] / MODEL_FILE),
        sidecar=inputs["sidecar"],
        source=inputs.get("source"),
        reference=reference,
        names=tuple(name for name in input_names(reference, task) if name in taken or name not in OPTIONAL_INPUTS),
        limits=limits_of(reference.config),
    )


def _batches(numbers: Numbers) -> dict[str, dict[str, int]]:
    return {kind: {"run": count, "failed": failed} for kind, (failed, count) in numbers.kinds.items()}


def _metrics(checks: list[Check]) -> dict[str, Any]:
    parity = {
        check.name: {"worst": check.worst, "limit": check.limit} for check in checks if check.name.startswith("parity.")
    }
    return {"checks": len(checks), "failed": sum(not check.passed for check in checks)} | parity
