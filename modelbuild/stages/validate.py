"""validate: the files that ship against unmodified PyTorch, under the session and providers that they will run with."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch

from modelbuild.checks import (
    OF_FAMILY,
    CheckModule,
    bounds,
    decoding,
    features,
    generation,
    image_processor,
    interface,
    invariance,
    module_config,
    placement,
    sidecar,
    tokenizer,
    weights,
)
from modelbuild.checks.numbers import Numbers, compare_all
from modelbuild.checks.runs import Runs
from modelbuild.checks.subject import Subject
from modelbuild.component import Component
from modelbuild.diagnosis.diagnose import Diagnosis, diagnose
from modelbuild.families.split import components_of
from modelbuild.graph import read_graph
from modelbuild.interface import Interface
from modelbuild.operator_libraries import verified_libraries
from modelbuild.reference import load_reference
from modelbuild.report import Check, Report, named_after, read_report
from modelbuild.session_presets import settled
from modelbuild.stage_spec import FolderFiles, ValidateSpec
from modelbuild.tasks import TASKS, Task

# What is checked of the whole model, and needs no session, in the order in which it is shown.
WHOLE: tuple[CheckModule, ...] = (sidecar, generation, tokenizer, image_processor, module_config)


def run(spec: ValidateSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Compare, and report every check; a check that fails is in the report, and package refuses because of it.

    A graph whose interface is wrong is not run: what it would be fed is not known.
    """
    spec = spec.model_copy(update={"session": settled(spec.session, inputs["optimize"])})
    subjects = _subjects(spec, inputs)
    checks: list[Check] = []
    facts: dict[str, Any] = {"status": spec.validation.kind, "seed": spec.validation.seed, "torch": torch.__version__}
    components: dict[str, Any] = {}
    running: dict[str, Runs] = {}
    for name, subject in subjects.items():
        runs = Runs(subject)
        found = _examined(runs, inputs, out)
        runs.release()
        checks += named_after(name if len(subjects) > 1 else "", found.checks)
        components[name] = found.facts
        if found.works:
            running[name] = runs
        if found.accuracy:
            line = f"{name}: {found.accuracy}" if len(subjects) > 1 else found.accuracy
            facts["accuracy"] = [*facts.get("accuracy", []), line]
        if found.diagnosis and "diagnosis" not in facts:
            facts["diagnosis"] = _diagnosis_of(name if len(subjects) > 1 else "", found.diagnosis)
    if running.keys() == subjects.keys():
        checks += decoding.examine(running)
    subject = _of_text(subjects)
    checks += [check for module in _whole(subject.task) for check in module.examine(subject)]
    return Report(
        stage="validate", checks=tuple(checks), facts=facts | {"components": components}, metrics=_metrics(checks)
    )


def _diagnosis_of(component: str, diagnosis: Diagnosis) -> dict[str, str]:
    """The diagnosis of one graph as a fact; of one among several, it says first which."""
    place = f"{component}: {diagnosis.place}" if component else diagnosis.place
    return asdict(replace(diagnosis, place=place))


@dataclass(frozen=True, kw_only=True)
class _Examined:
    """The checks of one graph, what was seen on the way, whether it runs, the diagnosis where it is wrong, and the line
    on its accuracy where its precision is reduced.
    """

    checks: tuple[Check, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    works: bool = False
    diagnosis: Diagnosis | None = None
    accuracy: str = ""


def _examined(runs: Runs, inputs: Mapping[str, Path], out: Path) -> _Examined:
    subject = runs.subject
    checks = list(interface.examine(subject))
    runnable = all(check.passed for check in checks)
    checks += [*weights.examine(subject), *features.examine(subject)]
    if not runnable:
        return _Examined(checks=tuple(checks))
    numbers = compare_all(runs)
    checks += numbers.checks
    facts = {
        runs.rule.usual_is: {name: usual.error for name, usual in runs.usual.items()},
        "batches": _batches(numbers),
        **({"accuracy": numbers.judged.facts} if numbers.judged.line else {}),
    }
    if numbers.runs:
        checks += [*invariance.examine(runs), *bounds.examine(runs), *placement.examine(subject)]
    diagnosis = None
    if numbers.failing:
        shipped = read_report(inputs["optimize"] / "report.json").facts["components"][subject.component.name]
        diagnosis = diagnose(runs, numbers, shipped["optimization"], out)
    return _Examined(
        checks=tuple(checks), facts=facts, works=numbers.runs, diagnosis=diagnosis, accuracy=numbers.judged.line
    )


def _whole(task: Task) -> tuple[CheckModule, ...]:
    """What is checked of the whole model for `task`."""
    own = OF_FAMILY.get(task.family)
    return (*WHOLE, cast(CheckModule, importlib.import_module(own))) if own else WHOLE


def _of_text(subjects: Mapping[str, Subject]) -> Subject:
    """The graph that takes text, where there is one: config and tokenizer are compared with it."""
    taking = (subject for subject in subjects.values() if subject.interface.content("token_ids"))
    return next(taking, next(iter(subjects.values())))


def _subjects(spec: ValidateSpec, inputs: Mapping[str, Path]) -> dict[str, Subject]:
    """Every graph of the model by name."""
    task = TASKS[spec.task]
    reference = load_reference(spec.model, task, inputs.get("source"), inputs.get("weights"))
    libraries = verified_libraries(spec.custom_ops, inputs)
    exported = read_report(inputs["export"] / "report.json").facts["components"]
    shipped = read_report(inputs["optimize"] / "report.json").facts["components"]
    found = {}
    for component in components_of(reference, task):
        file, name = component.file, component.name
        ships = Interface.of_facts(shipped[name]["interface"])
        found[name] = Subject(
            spec=spec,
            task=task,
            model_file=inputs["optimize"] / file,
            exported_file=inputs["export"] / file,
            exported_facts=exported[name],
            graph=read_graph(inputs["optimize"] / file),
            sidecar=inputs["sidecar"],
            source=inputs.get("source") if isinstance(spec.model.source, FolderFiles) else None,
            reference=reference,
            component=_as_exported(component, inputs["export"] / file),
            limits=ships.limits(),
            steps=ships.steps(),
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
