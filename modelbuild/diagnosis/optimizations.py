"""Which optimization brought a departure in: they are switched off, and the batch is run again."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import onnx
from onnx import TensorProto, helper

from modelbuild.candidates import CANDIDATES, Candidate, ort_level
from modelbuild.checks.numbers import agrees
from modelbuild.checks.runs import Runs
from modelbuild.diagnosis.tensors import session_of
from modelbuild.errors import ModelbuildError
from modelbuild.fusions.blame import verdict
from modelbuild.runtime.session import SessionSettings
from modelbuild.samples import Batch

_DISABLE = "optimization.disable_specified_optimizers"
_MASK_INPUT = {"Attention": 3, "MultiHeadAttention": 4}


def culprit(runs: Runs, batch: Batch, optimization: str, scratch: Path) -> str:
    """What brought in the departure on `batch`, in words, for a file that was optimized by `optimization`.

    Graphs that are built on the way are written into folders in `scratch`, and none is left there.
    """
    if agrees(runs, batch, runs.open(_plain(runs))):
        level = runs.settings().graph_optimization_level
        return (
            f"the file matches PyTorch, and at session.graph_optimization_level={level} not; {_of_session(runs, batch)}"
        )
    if agrees(runs, batch, runs.open(_plain(runs), runs.subject.exported_file)):
        found = _of_candidate(runs, batch, optimization, scratch)
        return f"the exported graph matches PyTorch, and the optimized one not; {found}"
    operator = _mask_of_lengths(runs, batch)
    if operator:
        return f"attention fusion brings it in: {operator} takes lengths for a mask, which is right padding only"
    return "no optimization brings it in: the exported graph has it already"


def _plain(runs: Runs) -> SessionSettings:
    return SessionSettings(graph_optimization_level="none", allow_spinning=False, custom_ops=runs.subject.custom_ops)


def _of_session(runs: Runs, batch: Batch) -> str:
    """The optimization of ONNX Runtime's session without which the batch comes out right."""
    settings = runs.settings()
    # What `all` adds to `extended` has no names to be switched off by.
    tamer = replace(settings, graph_optimization_level="extended")
    if settings.graph_optimization_level == "all" and agrees(runs, batch, runs.open(tamer)):
        return "at extended it does: an optimization of level all (layout) is to blame"

    def works(without: frozenset[str]) -> bool:
        entries = dict(settings.config_entries) | {_DISABLE: ";".join(sorted(without))}
        return agrees(runs, batch, runs.open(replace(settings, config_entries=entries)))

    return verdict(ort_level.fusions("extended", {}), works)


def _of_candidate(runs: Runs, batch: Batch, optimization: str, scratch: Path) -> str:
    """The fusion of the candidate without which the batch comes out right."""
    candidate = cast(Candidate, importlib.import_module(CANDIDATES[optimization]))
    source = runs.subject.exported_file
    facts = runs.subject.exported_facts

    def works(without: frozenset[str]) -> bool:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                candidate.optimize(
                    optimization, source, facts, Path(folder) / source.name, without, runs.subject.custom_ops
                )
            except ModelbuildError:
                return False  # it cannot do without these
            return agrees(runs, batch, runs.open(_plain(runs), Path(folder) / source.name))

    precision = runs.subject.spec.precision.kind
    if works(frozenset()):
        if precision != "fp32":
            return f"precision={precision} brings it in: what optimization={optimization} makes of it in fp32 matches"
        return f"it is not what optimization={optimization} makes of it: the file was changed since"
    return f"optimization={optimization}: {verdict(candidate.fusions(optimization, facts), works)}"


def _mask_of_lengths(runs: Runs, batch: Batch) -> str | None:
    """The attention operator whose mask is a length per row, if the batch comes out right with the mask itself."""
    proto = onnx.load(runs.subject.model_file, load_external_data=False)
    nodes = [node for node in proto.graph.node if node.op_type in _MASK_INPUT and node.domain == "com.microsoft"]
    masked = [node for node in nodes if len(node.input) > _MASK_INPUT[node.op_type]]
    if not masked or "attention_mask" not in batch.inputs:
        return None
    raw = "modelbuild.raw_attention_mask"
    for node in masked:
        node.input[_MASK_INPUT[node.op_type]] = raw
    cast_node = helper.make_node("Cast", ["attention_mask"], [raw], to=TensorProto.INT32)
    proto.graph.node.insert(0, cast_node)
    right = agrees(runs, batch, session_of(proto, runs.subject.model_file.parent, runs.subject.custom_ops))
    return f"{masked[0].domain}.{masked[0].op_type}" if right else None
