"""How fast the models are that modelbuild, Optimum and Olive make, beside PyTorch eager, on this machine's CPU.

    python benchmarks/artifact_speed.py [--rounds 11] [--out benchmarks/artifact_speed.json] [--only bert-base ...]

Everyone gets the same checkpoint with seeded random weights, and the graph that comes out is run with the same inputs,
the same number of threads and the same session settings, each in a process of its own. In each round every side is
started anew, in an order drawn for it, and runs a block of calls while the others are suspended: where its memory lies
makes a process up to 5 % faster or slower for as long as it lives. Speeds are ratios to PyTorch eager of the same
round, with a 95 % interval by bootstrap. How far the last hidden states are from PyTorch's is told for inputs without
padding, and for left padding, at the valid tokens, as a share of the largest value.

The parts `int8 ...` compare precision=int8 with our own fp32: BERT-base with random weights, and the real
all-MiniLM-L6-v2, of which the cosine of 200 sentences with PyTorch's is told too. A part is a model; run again after
an interruption, it goes on with the next. What was built is kept, and built again when it would come out otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from accuracy import sentence_accuracy
from makers import our_overrides, resolved
from random_models import CHECKPOINTS, Checkpoint, write_checkpoint
from results import Plan, plan, positive, run_parts, write

from artifacts import (
    OURS,
    PEERS,
    PYTORCH,
    Source,
    answer,
    batch,
    chosen,
    fp32_sides,
    graph_side,
    linear_layers,
    our_package,
    pytorch_side,
    without_those_that_fail,
)
from modelbuild.measure.exclusive import exclusive
from modelbuild.measure.processes import WAITING_LIMIT, MeasuredProcess, Samples, open_processes, started_anew
from modelbuild.measure.sides import Side
from modelbuild.measure.statistics import compare, rounded
from modelbuild.spec import Benchmark

RUNS, WARMUP = 5, 2
FP32, INT8 = "modelbuild fp32", "modelbuild int8"
_INT8 = "int8 "
# The real model, whose shapes and task are those of BERT.
MINILM = replace(CHECKPOINTS["bert-base"], name="minilm", title="all-MiniLM-L6-v2")
PARTS = (*CHECKPOINTS, f"{_INT8}bert-base", f"{_INT8}minilm")


def one_part(made: Plan, part: str) -> dict[str, Any]:
    """Everything about one model."""
    if part.startswith(_INT8):
        return _int8(made, part.removeprefix(_INT8))
    checkpoint = CHECKPOINTS[part]
    source = Source(checkpoint=checkpoint, folder=made.work / "models" / part, work=made.work)
    write_checkpoint(checkpoint, source.folder)
    sides, failed = without_those_that_fail(fp32_sides(source, made.chosen.with_, search(made)), PEERS)
    facts = {
        "failed": failed,
        "chosen": chosen(made.work / "modelbuild" / "packages" / f"{part}-auto", checkpoint.graph),
    }
    return {"title": checkpoint.title} | facts | _measured(made, checkpoint, sides, PYTORCH, OURS)


def _int8(made: Plan, name: str) -> dict[str, Any]:
    """int8 beside fp32 and PyTorch, of a model with random weights or of the real one."""
    checkpoint = MINILM if name == "minilm" else CHECKPOINTS[name]
    folder = made.work / "models" / name
    if name == "minilm":
        model = ["model=minilm", "benchmark=off"]
    else:
        write_checkpoint(checkpoint, folder)
        model = our_overrides(checkpoint, folder)
    model += [*search(made), *made.chosen.with_]
    packages = {
        side: our_package(f"{name}-{precision}", [*model, f"precision={precision}"], made.work)
        for side, precision in ((FP32, "fp32"), (INT8, "int8"))
    }
    sides: dict[str, Side] = {PYTORCH: pytorch_side(model, checkpoint, made.work)}
    sides |= {side: graph_side(package / "model.onnx") for side, package in packages.items()}
    facts: dict[str, Any] = {"title": checkpoint.title, "linear_layers": linear_layers(packages[INT8] / "model.onnx")}
    if name == "minilm":
        original = resolved(model, made.work).located.folder
        assert original is not None
        facts["accuracy"] = sentence_accuracy(original, packages[INT8])
    return facts | _measured(made, checkpoint, sides, PYTORCH, INT8)


def search(made: Plan) -> list[str]:
    """The overrides that choose the search, with the seconds that it is given if the command line says."""
    budget = made.chosen.budget
    return ["optimization=auto", *([f"optimization.budget_s={budget}"] if budget else [])]


def _measured(made: Plan, checkpoint: Checkpoint, sides: Mapping[str, Side], base: str, subject: str) -> dict[str, Any]:
    """Every shape: the median latency of every side, how many times faster than `base` it is, and how many times
    faster than each of the others `subject` is.
    """
    rng = np.random.default_rng(0)
    plan_ = Benchmark(kind="full", rounds=made.rounds, runs=RUNS, warmup=WARMUP)
    inputs = {"x".join(map(str, shape)): batch(checkpoint, shape, rng) for shape in checkpoint.shapes}
    with exclusive("benchmark", lambda line: print(f"  {line}", flush=True)):
        with open_processes(sides) as processes:
            differences = _differences(checkpoint, processes, base)
            load_ms = {name: process.facts.load_ms for name, process in processes.items()}
        measured = started_anew(sides, inputs, plan_, rng)
    cases = {label: case_of(samples, base, subject) for label, samples in measured.items()}
    for label, case in cases.items():
        said = ", ".join(f"{name} {ratio['median']:.2f}x" for name, ratio in case["speed"].items())
        print(f"  {label}: {said}", flush=True)
    return {"cases": rounded(cases), "load_ms": rounded(load_ms), "off_by": differences}


def case_of(samples: Samples, base: str, subject: str) -> dict[str, Any]:
    """The figures of one shape: medians, how many times faster than `base` each side is, and `subject` than each."""
    times = samples.latencies_ms
    waited = samples.waiting_share
    others = [name for name in times if name != subject]
    beside = {name: _ratio(times[name], times[subject]) for name in others}
    if waited is not None and waited > WAITING_LIMIT:
        # Something else on the machine took the cores: such figures rank nothing.
        beside = {name: ratio | {"verdict": "disturbed"} for name, ratio in beside.items()}
    return {
        "p50_ms": {name: float(np.median(values)) for name, values in times.items()},
        "speed": {name: _ratio(times[base], values) for name, values in times.items() if name != base},
        "subject": subject,
        "beside": beside,
        "waiting_share": waited,
    }


def _ratio(slow: Any, fast: Any) -> dict[str, Any]:
    ratio = compare(slow, fast, seed=0)
    return {"median": ratio.median, "low": ratio.low, "high": ratio.high, "verdict": ratio.verdict}


def _differences(
    checkpoint: Checkpoint, processes: Mapping[str, MeasuredProcess], base: str
) -> dict[str, dict[str, float]]:
    """How far each side is from `base`, without padding and with padding on the left: a share of the largest value."""
    kinds = {"no padding": 0} if checkpoint.task.startswith("image-") else {"no padding": 0, "left padding": 9}
    shape = (2, *checkpoint.shapes[0][1:])
    found: dict[str, dict[str, float]] = {}
    for kind, padding in kinds.items():
        inputs = batch(checkpoint, shape, np.random.default_rng(1), padding)
        valid = inputs["attention_mask"].astype(bool) if "attention_mask" in inputs else slice(None)
        expected = processes[base].ask(answer, inputs)[valid]
        found[kind] = {
            name: float(f"{_off(process.ask(answer, inputs)[valid], expected):.2g}")
            for name, process in processes.items()
            if name != base
        }
    return found


def _off(actual: Any, expected: Any) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def figures(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found, by part."""
    return {"models": {part["part"]: {k: v for k, v in part.items() if k not in ("part", "time")} for part in parts}}


def main() -> None:
    """Measure, print, and write what was measured."""
    options: dict[str, dict[str, Any]] = {
        "--only": {"nargs": "+", "choices": PARTS, "default": list(PARTS), "metavar": "PART", "help": ", ".join(PARTS)},
        "--with": {
            "dest": "with_",
            "nargs": "+",
            "default": ["validation=quick"],
            "metavar": "OVERRIDE",
            "help": "overrides of every build of modelbuild (validation=quick)",
        },
        "--budget": {"type": positive, "metavar": "SECONDS", "help": "optimization.budget_s of every search"},
    }
    made = plan("artifact_speed", __doc__, rounds=11, options=options)
    if made.rounds < 5:
        raise SystemExit(f"--rounds {made.rounds}: an interval needs at least 5")
    settings = {"overrides": made.chosen.with_, "rounds": made.rounds, "runs": RUNS, "search": search(made)}
    parts = run_parts(made, settings, made.chosen.only, lambda part: one_part(made, part))
    overrides = [*search(made), *made.chosen.with_]
    write(made, parts, figures(parts), runs=RUNS, overrides=overrides)


if __name__ == "__main__":
    main()
