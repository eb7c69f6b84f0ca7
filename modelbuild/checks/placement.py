"""The provider contract, down to nodes: the model runs on the providers that were asked for, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelbuild.checks.subject import Subject
from modelbuild.errors import InputError, listed
from modelbuild.report import Check
from modelbuild.runtime.placement import Placement, node_placement
from modelbuild.samples import Batch, sample
from modelbuild.sizes import typical_sizes

# A tensor may cross once each way for every input and output: a shape that is read, a result that is handed on. A graph
# that goes back and forth between devices has more.
COPIES_PER_TENSOR = 2
_SHOWN = 5


def examine(subject: Subject) -> Iterator[Check]:
    """Providers, nodes, time and copies of the file that ships. Raises HostError when no session opens as asked: that
    is this machine's fault, and not the model's.
    """
    providers, batches = subject.spec.providers, _batches(subject)
    try:
        placement = node_placement(
            subject.model_file,
            providers=providers.choices(),
            settings=subject.settings(),
            inputs=[batch.inputs for batch in batches],
            allow_fallback=providers.allow_fallback,
        )
    except InputError as error:
        compared = f"where nodes run, on {', '.join(batch.kind for batch in batches)}"
        yield Check(name="placement", passed=False, compared=compared, where=str(error))
        return
    yield from placement_checks(placement)


def placement_checks(placement: Placement) -> Iterator[Check]:
    """The verdict on a placement, in four checks. Where fallback was allowed all pass, and say what ran where.

    The time off the provider always passes: a timing is a figure to see, and no ground for a verdict that is cached.
    """
    yield _providers(placement)
    yield _nodes(placement)
    yield _time(placement)
    yield _copies(placement)


def _batches(subject: Subject) -> list[Batch]:
    """The largest of the sizes that are compared, without padding and with."""
    validation = subject.spec.validation
    length = max(validation.sequence_lengths)
    sizes = typical_sizes(subject.interface, batch=max(validation.batch_sizes), length=length, past=length)
    rng = np.random.default_rng(validation.seed)
    return [sample(subject.interface, sizes, mask=mask, rng=rng) for mask in ("ones", "left")]


def _providers(placement: Placement) -> Check:
    right = placement.active[: len(placement.asked)] == placement.asked
    return _verdict(
        placement,
        right,
        name="providers",
        compared="the session's providers with those asked for, in order",
        where="" if right else f"asked: {', '.join(placement.asked)}; session: {', '.join(placement.active)}",
    )


def _nodes(placement: Placement) -> Check:
    where = "; ".join(f"{provider}: {count} nodes" for provider, count in placement.nodes.items())
    computing = [item for item in placement.displaced if item.compute]
    books = sum(item.nodes - item.compute for item in placement.displaced)
    return _verdict(
        placement,
        not computing,
        name="placement",
        compared=where + (f", {books} of them not as asked, for shapes only" if books else ""),
        worst=float(placement.compute_off),
        limit=0.0,
        where=listed(computing, _SHOWN),
    )


def _time(placement: Placement) -> Check:
    return Check(
        name="time off provider",
        passed=True,
        compared=f"share of the time of a run in kernels not on {', '.join(placement.asked)}; no limit",
        worst=placement.time_off,
        where=listed(placement.displaced, _SHOWN),
    )


def _copies(placement: Placement) -> Check:
    limit = COPIES_PER_TENSOR * placement.tensors
    right = placement.copies <= limit
    return _verdict(
        placement,
        right,
        name="copies",
        compared="nodes that copy between the memories of two devices",
        worst=float(placement.copies),
        limit=float(limit),
        where="" if right else f"{placement.copies} Memcpy nodes for {placement.tensors} inputs and outputs",
    )


def _verdict(
    placement: Placement,
    right: bool,
    *,
    name: str,
    compared: str,
    where: str,
    worst: float | None = None,
    limit: float | None = None,
) -> Check:
    if placement.allow_fallback:
        compared = f"{compared}; fallback was allowed{'' if right else ' and used'}"
    passed = right or placement.allow_fallback
    return Check(name=name, passed=passed, compared=compared, where=where, worst=worst, limit=limit)
