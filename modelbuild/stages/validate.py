"""validate: the files that ship against unmodified PyTorch, under the session and providers that they will run with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from modelbuild.checks import (
    CheckModule,
    bounds,
    image_processor,
    interface,
    invariance,
    placement,
    sidecar,
    tokenizer,
    weights,
)
from modelbuild.checks.numbers import Numbers, compare_all
from modelbuild.checks.runs import Runs
from modelbuild.checks.subject import Subject
from modelbuild.component import Component
from modelbuild.diagnosis.diagnose import diagnose
from modelbuild.families.split import components_of
from modelbuild.graph import read_graph
from modelbuild.interface import Interface
from modelbuild.operator_libraries import verified_libraries
from modelbuild.reference import load_reference
from modelbuild.report import Check, Report, named_after, read_report
from modelbuild.stage_spec import ValidateSpec
from modelbuild.tasks import TASKS

SPEC = ValidateSpec
REPORT: str | None = "validation.json"

# What is checked of the whole model, and needs no session, in the order in which it is shown.
WHOLE: tuple[CheckModule, ...] = (sidecar, tokenizer, image_processor)


def run(spec: ValidateSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Compare, and report every check; a check that fails is in the report, and package refuses because of it.

    A graph whose interface is wrong is not run: what it would be fed is not known.
    """
    if spec.validation.kind == "off":
        return Report(stage="validate", facts={"status": "off"}, metrics={"checks": 0, "failed": 0})
    subjects = _subjects(spec, inputs)
    checks: list[Check] = []
    facts: dict[str, Any] = {"status": spec.validation.kind, "seed": spec.validation.seed, "torch": torch.__version__}
    components: dict[str, Any] = {}
    for name, subject in subjects.items():
        found, components[name], diagnosis = _examined(subject, inputs, out)
        checks += named_after(name if len(subjects) > 1 else "", found)
        if diagnosis and "diagnosis" not in facts:
            facts["diagnosis"] = diagnosis
    subject = _of_text(subjects)
    checks += [check for module in WHOLE for check in module.examine(subject)]
    return Report(
        stage="validate", checks=tuple(checks), facts=facts | {"components": components}, metrics=_metrics(checks)
    )


def _examined(
    subject: Subject, inputs: Mapping[str, Path], out: Path
) -> tuple[list[Check], dict[str, Any], dict[str, str] | None]:
    """The checks of one graph, what was seen on the way, and, where it is wrong, the diagnosis."""
    checks = list(interface.examine(subject))
    runnable = all(check.passed for check in checks)
    checks += weights.examine(subject)
    if not runnable:
        return checks, {}, None
    runs = Runs(subject)
    numbers = compare_all(runs)
    checks += numbers.checks
    facts = {
        "pytorch_own_error": {name: usual.error for name, usual in runs.usual.items()},
        "batches": _batches(numbers),
    }
    if numbers.runs:
        checks += [*invariance.examine(runs), *bounds.examine(runs), *placement.examine(subject)]
    if not numbers.failing:
        return checks, facts, None
    optimization = read_report(inputs["optimize"] / "report.json").facts["optimization"]
    return checks, facts, asdict(diagnose(runs, numbers, optimization, out))


def _of_text(subjects: Mapping[str, Subject]) -> Subject:
    """The graph that takes text, where there is one: config and tokenizer are compared with it."""
    taking = (subject for subject in subjects.values() if subject.interface.content("token_ids"))
    return next(taking, next(iter(subjects.values())))


def _subjects(spec: ValidateSpec, inputs: Mapping[str, Path]) -> dict[str, Subject]:
    """Every graph of the model by name."""
    task = TASKS[spec.task]
    reference = load_reference(spec.model, task, inputs.get("source"))
    libraries = verified_libraries(spec.custom_ops, inputs)
    exported = read_report(inputs["export"] / "report.json").facts["components"]
    shipped = read_report(inputs["optimize"] / "report.json").facts["components"]
    found = {}
    for component in components_of(reference, task):
        file, name = component.file, component.name
        found[name] = Subject(
            spec=spec,
            task=task,
            model_file=inputs["optimize"] / file,
            exported_file=inputs["export"] / file,
            exported_facts=exported[name],
            graph=read_graph(inputs["optimize"] / file),
            sidecar=inputs["sidecar"],
            source=inputs.get("source"),
            reference=reference,
            component=_as_exported(component, inputs["export"] / file),
            limits=Interface.of_facts(shipped[name]["interface"]).limits(),
            custom_ops=libraries,
        )
    return found


def _as_exported(component: Component, exported: Path) -> Component:
    """The component without the optional inputs that the exported graph does without."""
    taken = read_graph(exported).signature.input_names()
    return replace(component, interface=component.interface.taking(taken))


def _batches(numbers: Numbers) -> dict[str, dict[str, int]]:
    return {kind: {"run": count, "failed": failed} for kind, (failed, count) in numbers.kinds.items()}


def _metrics(checks: list[Check]) -> dict[str, Any]:
    parity = {check.name: {"worst": check.worst, "limit": check.limit} for check in checks if "parity." in check.name}
    return {"checks": len(checks), "failed": sum(not check.passed for check in checks)} | parity
