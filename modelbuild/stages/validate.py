"""validate: the file that ships against unmodified PyTorch, under the session and providers that it will run with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from modelbuild.checks import CheckModule, interface, sidecar
from modelbuild.checks.sidecar import has_tokenizer
from modelbuild.checks.subject import Subject
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.parity import Comparison, Rule, compare, parity_checks
from modelbuild.reference import input_names, load_reference, run_reference, tokenize
from modelbuild.report import Check, Report
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import TEXTS, Batch, covering_batches, limits_of, random_batch, random_batches
from modelbuild.spec import Validation
from modelbuild.stage_spec import ValidateSpec
from modelbuild.tasks import TASKS, Task

SPEC = ValidateSpec
REPORT: str | None = "validation.json"

# What looks at files alone, in the order in which it is shown. What runs the model comes after them.
CHECKS: tuple[CheckModule, ...] = (interface, sidecar)

# Text is cut here: real sentences are for real token statistics; long inputs are random.
_TEXT_LENGTH = 64


def run(spec: ValidateSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Compare, and report every check; a check that fails is in the report, and package refuses because of it."""
    if spec.validation.kind == "off":
        return Report(stage="validate", facts={"status": "off"}, metrics={"checks": 0, "failed": 0})
    task = TASKS[spec.task]
    model = load_reference(spec.model, task, inputs.get("source"))
    names, limits = input_names(model, task), limits_of(model.config)
    subject = Subject(
        spec=spec,
        task=task,
        model_file=inputs["optimize"] / MODEL_FILE,
        exported_file=inputs["export"] / MODEL_FILE,
        graph=read_graph(inputs["optimize"] / MODEL_FILE),
        sidecar=inputs["sidecar"],
        source=inputs.get("source"),
        reference=model,
        names=names,
        limits=limits,
    )
    checks = [check for module in CHECKS for check in module.examine(subject)]
    batches = list(_batches(subject))
    if all(check.passed for check in checks):
        session = open_session(
            inputs["optimize"] / MODEL_FILE,
            providers=spec.providers.choices(),
            settings=SessionSettings.from_mapping(spec.session.model_dump()),
            allow_fallback=spec.providers.allow_fallback,
        )
        checks += parity_checks(_comparisons(model, session, task, batches, _rule(spec.validation)))
    return Report(
        stage="validate",
        checks=tuple(checks),
        facts={
            "status": spec.validation.kind,
            "batches": len(batches),
            "seed": spec.validation.seed,
            "torch": torch.__version__,
        },
        metrics=_metrics(checks),
    )


def _metrics(checks: list[Check]) -> dict[str, Any]:
    parity = {
        check.name: {"worst": check.worst, "limit": check.limit} for check in checks if check.name.startswith("parity.")
    }
    return {"checks": len(checks), "failed": sum(not check.passed for check in checks)} | parity


def _rule(validation: Validation) -> Rule:
    return Rule(
        oracle_factor=validation.oracle_factor, floor=validation.floor, rtol=validation.rtol, atol=validation.atol
    )


def _batches(subject: Subject) -> Iterator[Batch]:
    validation, names, limits = subject.spec.validation, subject.names, subject.limits
    yield from random_batches(
        names,
        limits,
        batches=validation.batch_sizes,
        sequences=validation.sequence_lengths,
        masks=validation.masks,
        seed=validation.seed,
    )
    if validation.include_maximum:
        rng = np.random.default_rng(validation.seed)
        yield random_batch(names, limits, batch=1, sequence=limits.max_positions, mask="ones", rng=rng)
        yield random_batch(names, limits, batch=2, sequence=max(1, limits.max_positions - 1), mask="left", rng=rng)
    if validation.cover_embeddings:
        yield from covering_batches(names, limits, seed=validation.seed)
    if has_tokenizer(subject):
        for side in ("right", "left"):
            length = min(_TEXT_LENGTH, limits.max_positions)
            arrays = tokenize(subject.sidecar, TEXTS, names, padding_side=side, max_length=length)
            yield Batch(kind=f"text padded {side}", inputs=arrays)


def _comparisons(
    model: torch.nn.Module, session: ort.InferenceSession, task: Task, batches: list[Batch], rule: Rule
) -> Iterator[Comparison]:
    """Every output of every batch. A session that fails on a batch is a comparison that failed there."""
    oracle_model = copy.deepcopy(model).double()
    for batch in batches:
        reference = run_reference(model, batch.inputs, task.outputs)
        oracle = run_reference(oracle_model, batch.inputs, task.outputs)
        try:
            values = session.run(list(task.outputs), batch.inputs)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no other base class
            where = f"{batch.kind}: does not run: {str(error).splitlines()[0]}"
            yield from (
                Comparison(output=o, error=float("inf"), limit=1.0, bad_values=0, where=where) for o in task.outputs
            )
            continue
        for name, value in zip(task.outputs, values, strict=True):
            yield compare(
                name,
                batch.kind,
                candidate=value,
                reference=reference[name],
                oracle=oracle[name],
                valid=batch.valid if name in task.per_token else np.asarray(batch.valid.any(axis=1)),
                rule=rule,
            )
