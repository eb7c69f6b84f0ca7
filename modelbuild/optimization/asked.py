"""The one kind of optimization that was asked for: what fails is not replaced by another in silence.

Where linear layers are to be quantized, `transformer` fuses to the operator that leaves them outside.
"""

from __future__ import annotations

from dataclasses import replace

from modelbuild.errors import OptimizeError
from modelbuild.fusions.blame import verdict
from modelbuild.optimization.job import Job, Made, candidate_of, emit, works
from modelbuild.stage_spec import OptimizeSpec

# What is done less to a graph than by each kind: where one fails, the next may do.
_TAMER = {
    "none": (),
    "basic": ("none",),
    "extended": ("basic", "none"),
    "transformer": ("extended", "basic", "none"),
    "multi_head_attention": ("extended", "basic", "none"),
    "ort_transformer": ("extended", "basic", "none"),
}
# Attention has its linear layers inside, where a reduced precision does not reach them.
_OUTSIDE = {"transformer": "multi_head_attention"}


def make(job: Job, spec: OptimizeSpec) -> Made:
    """Write what the asked candidate makes. Raises OptimizeError, with the fusion that is to blame and a kind of
    optimization that works, when it cannot ship.
    """
    if spec.precision.quantizes:
        job = replace(job, kind=_OUTSIDE.get(job.kind, job.kind))
    try:
        return emit(job)
    except OptimizeError as error:
        raise _diagnosed(error, job) from error


def _diagnosed(error: OptimizeError, job: Job) -> OptimizeError:
    problem, kind = error.problems[0], job.kind
    if job.reduce and works(job):
        return error  # it is of the precision, and says so
    tamer = next((other for other in _TAMER[kind] if works(replace(job, kind=other))), None)
    if tamer is None:
        return OptimizeError(
            f"the exported graph itself cannot be used: {problem.what}",
            where=f"optimization={kind}",
            hint="is it a graph of this model (model=…)? If so, choose another exporter",
        )
    found = verdict(candidate_of(kind).fusions(kind, job.facts), lambda without: works(job, without))
    what = "; ".join(part for part in (problem.what, found) if part)
    return OptimizeError(what, where=kind, hint=f"choose optimization={tamer}")
