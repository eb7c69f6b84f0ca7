"""Which nodes of a model run on which execution provider: what ONNX Runtime assigned, and what its profile shows.

The assignment is made before the last fusions and before copies are inserted; the profile is what ran.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime as ort

from modelbuild.errors import HostError, InputError
from modelbuild.providers import ort_name
from modelbuild.runtime.profile import COPIES, Profile, count_copies, read_profile, time_off
from modelbuild.runtime.session import ProviderChoice, SessionSettings, open_session

Feed = Mapping[str, npt.NDArray[Any]]

_SHAPE_ONLY = frozenset({"Shape", "Size"})
# What shapes are computed with. ONNX Runtime places these on the CPU by design where their values are there already,
# and that is bookkeeping as long as they read no tensor of floats.
_BOOKKEEPING = _SHAPE_ONLY | frozenset(
    {
        "Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand",
        "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity",
        "If", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pad", "Pow",
        "Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape",
        "ScatterElements", "ScatterND", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose",
        "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, kw_only=True)
class Displaced:
    """An operator with nodes on a provider that was not asked for: `nodes` of them, the name of the `first`, and how
    many of them `compute`, rather than keep the books of shapes.
    """

    operator: str
    provider: str
    nodes: int
    compute: int
    first: str

    def __str__(self) -> str:
        name = f" (first: {self.first})" if self.first else ""
        return f"{self.operator} x {self.compute or self.nodes}{name} on {self.provider}"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a model ran. Providers go by ONNX Runtime's names.

    `asked` are the providers that were asked for, in order, and `active` those of the session after the runs; the CPU
    is always active, and asked for only where it is named. `nodes` counts the nodes assigned to each provider, those of
    branches too. `displaced` is what is on no provider that was asked for, compute first. `copies` counts the nodes
    that copy a tensor from one device's memory to the other's, `time_off` is the share of the runs' time (0 to 1) that
    went to kernels on providers not asked for, and `tensors` is the number of inputs and outputs.
    """

    asked: tuple[str, ...]
    active: tuple[str, ...]
    allow_fallback: bool
    nodes: Mapping[str, int]
    displaced: tuple[Displaced, ...]
    copies: int
    time_off: float
    tensors: int

    @property
    def compute_off(self) -> int:
        """The number of nodes that compute, and do so on a provider that was not asked for."""
        return sum(item.compute for item in self.displaced)


def node_placement(
    model: Path,
    *,
    providers: Sequence[ProviderChoice],
    settings: SessionSettings,
    inputs: Sequence[Feed],
    allow_fallback: bool = False,
) -> Placement:
    """Where the nodes of `model` run, found by running each of `inputs` twice; times are those of the second run.

    The first of `providers` is the one wanted, the others are asked-for fallbacks, in order. Raises what `open_session`
    raises, InputError when `inputs` are none or do not run, and HostError when the session changed its providers in a
    run, unless `allow_fallback`.
    """
    if not inputs:
        raise InputError("no inputs: only a run tells where nodes run", where=model.name)
    entries = dict(settings.config_entries) | {"session.record_ep_graph_assignment_info": "1"}
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(
            model,
            providers=providers,
            settings=replace(settings, config_entries=entries),
            allow_fallback=allow_fallback,
            profile_prefix=Path(folder) / "profile",
        )
        opened = session.get_providers()
        try:
            _run_twice(session, inputs, model.name)
        finally:
            written = Path(session.end_profiling())
        if not allow_fallback:
            require_unchanged(session, opened, model.name)
        profile = read_profile(json.loads(written.read_text(encoding="utf-8")))
    asked = tuple(ort_name(name) for name, _ in providers)
    assigned = _assigned(session)
    return Placement(
        asked=asked,
        active=tuple(session.get_providers()),
        allow_fallback=allow_fallback,
        nodes=dict(Counter(provider for provider, _, _ in assigned)),
        displaced=_displaced(assigned, profile, asked),
        copies=count_copies(profile),
        time_off=time_off(profile.since(len(inputs)), asked),
        tensors=len(session.get_inputs()) + len(session.get_outputs()),
    )


def _run_twice(session: ort.InferenceSession, inputs: Sequence[Feed], name: str) -> None:
    """The first pass is the warm-up: a provider loads libraries and tries algorithms in it."""
    for feed in (*inputs, *inputs):
        try:
            session.run(None, dict(feed))
        except Exception as error:
            raise InputError(f"these inputs do not run: {error}", where=name) from error


def require_unchanged(session: ort.InferenceSession, opened: Sequence[str], name: str) -> None:
    """Raise HostError when the providers of `session` are no longer those it `opened` with."""
    active = session.get_providers()
    if list(opened) != active:
        raise HostError(
            f"ONNX Runtime went over from {', '.join(opened)} to {', '.join(active)} in a run",
            where=name,
            hint="the provider failed; see its messages, or set providers.allow_fallback=true",
        )


def _assigned(session: ort.InferenceSession) -> list[tuple[str, str, str]]:
    """Provider, operator and name of every node. The operator carries its domain, unless that is ONNX's own."""
    return [
        (part.ep_name, node.op_type if node.domain in _DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}", node.name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def _displaced(
    assigned: Sequence[tuple[str, str, str]], profile: Profile, asked: Sequence[str]
) -> tuple[Displaced, ...]:
    """Nodes by operator, as assigned, and below them what only the profile knows: what was fused or inserted later."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for provider, operator, name in assigned:
        if provider not in asked:
            nodes.setdefault((provider, operator), []).append(name)
    types = {(provider, operator.rpartition(".")[2]) for provider, operator in nodes}
    ran: dict[tuple[str, str], dict[str, bool]] = {}
    for kernel in profile.kernels:
        if kernel.provider not in asked:
            floats = ran.setdefault((kernel.provider, kernel.operator), {})
            floats[kernel.node] = kernel.reads_floats or floats.get(kernel.node, False)
    later = {key: list(names) for key, names in ran.items() if key not in types and key[1] not in COPIES}
    found = [_operator(key, names, ran.get(key, {})) for key, names in (nodes | later).items()]
    return tuple(sorted(found, key=lambda item: (-item.compute, -item.nodes, item.operator)))


def _operator(key: tuple[str, str], names: Sequence[str], ran: Mapping[str, bool]) -> Displaced:
    """One operator on one provider. Bookkeeping operators compute where a run showed that they read floats."""
    provider, operator = key
    first = next((name for name in names if name), "")
    compute = len(names)
    if operator in _BOOKKEEPING:
        computing = [] if operator in _SHAPE_ONLY else [name for name, floats in ran.items() if floats]
        compute, first = min(len(computing), len(names)), next(iter(computing), first)
    return Displaced(operator=operator, provider=provider, nodes=len(names), compute=compute, first=first)
