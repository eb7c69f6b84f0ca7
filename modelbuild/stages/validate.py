"""validate: the file that ships against unmodified PyTorch, under the session and providers that it will run with."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from modelbuild.graph import MODEL_FILE, GraphFacts, read_graph
from modelbuild.model_files import CONFIG_FILE
from modelbuild.parity import Comparison, Rule, compare, parity_checks
from modelbuild.reference import input_names, load_reference, run_reference, tokenize, tokenizer_size
from modelbuild.report import Check, Report, read_report
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import TEXTS, Batch, Limits, covering_batches, limits_of, random_batch, random_batches
from modelbuild.spec import Validation
from modelbuild.stage_spec import ValidateSpec
from modelbuild.tasks import TASKS, Task

SPEC = ValidateSpec
REPORT: str | None = "validation.json"

# Text is cut here: real sentences are for real token statistics; long inputs are random.
_TEXT_LENGTH = 64


def run(spec: ValidateSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Compare, and report every check; a check that fails is in the report, and package refuses because of it."""
    if spec.validation.kind == "off":
        return Report(stage="validate", facts={"status": "off"}, metrics={"checks": 0, "failed": 0})
    task, sidecar = TASKS[spec.task], inputs["sidecar"]
    model = load_reference(spec.model, task, inputs.get("source"))
    names, limits = input_names(model, task), limits_of(model.config)
    graph = read_graph(inputs["optimize"] / MODEL_FILE)
    checks = [_signature_check(graph, task, names), _opset_check(graph, spec), _axes_check(graph, task)]
    checks += _sidecar_checks(sidecar, graph, task, limits)
    batches = list(_batches(spec.validation, names, limits, sidecar))
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


def _batches(validation: Validation, names: tuple[str, ...], limits: Limits, sidecar: Path) -> Iterator[Batch]:
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
    if _has_tokenizer(sidecar):
        for side in ("right", "left"):
            length = min(_TEXT_LENGTH, limits.max_positions)
            arrays = tokenize(sidecar, TEXTS, names, padding_side=side, max_length=length)
            yield Batch(kind=f"text padded {side}", inputs=arrays)


def _has_tokenizer(sidecar: Path) -> bool:
    return bool(read_report(sidecar / "report.json").facts.get("tokenizer"))


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


def _signature_check(graph: GraphFacts, task: Task, names: tuple[str, ...]) -> Check:
    found = graph.signature
    dtypes = {spec.dtype for spec in found.inputs} == {"int64"} and {spec.dtype for spec in found.outputs} == {
        "float32"
    }
    right = found.input_names() == names and found.output_names() == task.outputs and dtypes
    return Check(
        name="signature",
        passed=right,
        compared="names, order and dtypes of inputs and outputs",
        where="" if right else f"graph: {found}; expected int64 {names} and float32 {task.outputs}",
    )


def _opset_check(graph: GraphFacts, spec: ValidateSpec) -> Check:
    opset = graph.opsets.get("", 0)
    return Check(
        name="opset",
        passed=opset == spec.opset.version,
        compared="the default domain's opset",
        where="" if opset == spec.opset.version else f"graph: {opset}, asked: {spec.opset.version}",
    )


def _axes_check(graph: GraphFacts, task: Task) -> Check:
    """Batch and sequence are symbolic, in inputs and outputs, and keep their own names."""
    wrong = [spec.name for spec in graph.signature.inputs if spec.shape != ("batch", "sequence")]
    for spec in graph.signature.outputs:
        leading = ("batch", "sequence") if spec.name in task.per_token else ("batch",)
        if spec.shape[: len(leading)] != leading or spec.symbolic_axes() != set(leading):
            wrong.append(spec.name)
    return Check(
        name="symbolic axes",
        passed=not wrong,
        compared=f"{len(graph.signature.inputs) + len(graph.signature.outputs)} shapes",
        where=", ".join(
            f"{s.name} {s.shape}" for s in (*graph.signature.inputs, *graph.signature.outputs) if s.name in wrong
        ),
    )


def _sidecar_checks(sidecar: Path, graph: GraphFacts, task: Task, limits: Limits) -> Iterator[Check]:
    if not (sidecar / CONFIG_FILE).is_file():
        return
    config: dict[str, Any] = json.loads((sidecar / CONFIG_FILE).read_text(encoding="utf-8"))
    architecture = config["architectures"][0]
    yield Check(
        name="config architecture",
        passed=architecture.endswith(task.architecture_suffix),
        compared=f"{architecture} with {task.name}",
    )
    classes = graph.signature.outputs[0].shape[-1]
    if task.labels:
        right = len(config["id2label"]) == classes
        yield Check(
            name="config labels",
            passed=right,
            compared=f"{len(config['id2label'])} labels, {classes} classes in the graph",
        )
    if _has_tokenizer(sidecar):
        size = tokenizer_size(sidecar)
        yield Check(
            name="tokenizer size",
            passed=size <= limits.vocab_size,
            compared="ids with embedding rows",
            worst=size,
            limit=limits.vocab_size,
        )
