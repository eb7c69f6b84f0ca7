"""The file that ships and PyTorch, run on the same inputs."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from modelbuild.batches import TEXTS, covering_batches, random_batches
from modelbuild.checks.sidecar import has_tokenizer
from modelbuild.checks.subject import Subject
from modelbuild.component import Named, Outputs, run_module
from modelbuild.errors import ExportError, first_line
from modelbuild.interface import Output
from modelbuild.parity import AnyRule, Rule, Usual, Values
from modelbuild.real_text import takes_text, text_batch
from modelbuild.reduced import Reduced
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import Batch, sample
from modelbuild.sizes import largest, longest, typical_sizes

# Beyond so many tokens in a batch, fp64 costs more than it tells; PyTorch's own error is then taken from smaller ones.
_ORACLE_TOKENS = 128
_COVERING_ROWS, _COVERING_VALUES = 4, 1 << 26


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch with the outputs of both sides by name. `oracle` is None where fp64 would cost too much; `candidate` is
    None where ONNX Runtime failed, and `error` then says how.
    """

    batch: Batch
    reference: Outputs
    oracle: Outputs | None
    candidate: Outputs | None
    error: str = ""

    def has_right_shapes(self) -> bool:
        """Whether the candidate ran, and its outputs have the shapes of PyTorch's."""
        candidate = self.candidate
        return candidate is not None and all(candidate[name].shape == a.shape for name, a in self.reference.items())

    def values(self, output: Output) -> Values:
        """One output of both sides with its positions on the second axis, and where it means anything."""
        assert self.candidate is not None
        name, placed = output.name, self.batch.placed
        reference, valid = placed(output, self.reference[name])
        same = self.candidate[name].shape == self.reference[name].shape
        return Values(
            output=name,
            case=self.batch.label,
            candidate=placed(output, self.candidate[name])[0] if same else self.candidate[name],
            reference=reference,
            oracle=placed(output, self.oracle[name])[0] if self.oracle else None,
            valid=valid,
        )


class Runs:
    """Both sides, opened once, run as often as it is wanted. `usual` is what was seen to be usual for each output."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.rule = _rule(subject)
        self.usual: dict[str, Usual] = defaultdict(Usual)

    @cached_property
    def session(self) -> ort.InferenceSession:
        """The file that ships, with the providers and the session settings that it ships with."""
        return self.open()

    @cached_property
    def oracle(self) -> Named:
        """The original in fp64."""
        module: Named = copy.deepcopy(self.subject.component.module).double()
        return module

    def release(self) -> None:
        """Let go of the original in fp64, which takes twice what the model does; it is made again when it is wanted."""
        vars(self).pop("oracle", None)

    def settings(self) -> SessionSettings:
        """The session settings that the file ships with, except that idle threads sleep.

        They compute the same; but threads that spin between runs take the cores from PyTorch, which runs in turn.
        """
        return replace(self.subject.settings(), allow_spinning=False)

    def open(self, settings: SessionSettings | None = None, model: Path | None = None) -> ort.InferenceSession:
        """Another session with the same providers, on the same file or another."""
        providers = self.subject.spec.providers
        return open_session(
            model or self.subject.model_file,
            providers=providers.choices(),
            settings=settings or self.settings(),
            allow_fallback=providers.allow_fallback,
        )

    def run(self, batch: Batch, session: ort.InferenceSession | None = None) -> Outputs:
        """The outputs of the candidate, by name. Raises whatever ONNX Runtime raises."""
        names = list(self.subject.interface.output_names())
        return dict(zip(names, (session or self.session).run(names, batch.inputs), strict=True))

    def case(self, batch: Batch, session: ort.InferenceSession | None = None) -> Case:
        """One batch on both sides, the candidate's being the file that ships or another `session`.

        Raises ExportError when PyTorch itself cannot run it.
        """
        small = batch.positions <= _ORACLE_TOKENS and not self.rule.absolute
        try:
            candidate, error = self.run(batch, session), ""
        except Exception as raised:  # noqa: BLE001 - ONNX Runtime's exceptions share no other base class
            candidate, error = None, first_line(raised)
        return Case(
            batch=batch,
            reference=self._pytorch(self.subject.component.module, batch),
            oracle=self._pytorch(self.oracle, batch) if small else None,
            candidate=candidate,
            error=error,
        )

    def _pytorch(self, module: Named, batch: Batch) -> Outputs:
        try:
            return run_module(module, batch.inputs)
        except Exception as error:
            raise ExportError(
                f"PyTorch cannot run the model on {batch.label}: {first_line(error)}",
                where=type(module.model).__name__,
                hint="correct its config.json, or choose sizes that it takes with validation.batch_sizes",
            ) from error


def _rule(subject: Subject) -> AnyRule:
    """The rule of the precision that ships; tolerances, where they were given, replace any."""
    validation, precision = subject.spec.validation, subject.spec.precision
    rule = Rule(
        oracle_factor=validation.oracle_factor, floor=validation.floor, rtol=validation.rtol, atol=validation.atol
    )
    if precision.kind == "fp32" or rule.absolute:
        return rule
    return Reduced(min_cosine=precision.min_cosine, min_top_1=precision.min_top_1, floor=validation.floor)


def batches_of(subject: Subject) -> Iterator[Batch]:
    """What both sides are run on: first short inputs, the larger batches before the smaller ones, because they tell
    more of what is usual; then long ones.
    """
    validation, interface = subject.spec.validation, subject.interface
    yield from random_batches(
        interface,
        batches=sorted(validation.batch_sizes, reverse=True),
        sequences=validation.sequence_lengths,
        masks=validation.masks,
        seed=validation.seed,
        per_size=validation.masks_per_size,
    )
    if takes_text(interface) and has_tokenizer(subject):
        for side in ("right", "left"):
            kind = f"text with {side} padding"
            yield text_batch(subject.tokenizer, interface, TEXTS, padding_side=side, kind=kind)
    if validation.include_maximum and interface.axes_of("length"):
        rng = np.random.default_rng(validation.seed)
        most = longest(interface)
        for size, length, mask in ((1, most, "ones"), (2, max(1, most - 1), "left")):
            yield sample(interface, typical_sizes(interface, batch=size, length=length), mask=mask, rng=rng)
    if validation.include_maximum and (pasts := interface.axes_of("past")):
        full = max(largest(interface, past) for past in pasts)
        rng = np.random.default_rng(validation.seed)
        yield sample(interface, typical_sizes(interface, batch=1, length=1, past=full), mask="ones", rng=rng)
    for axis, size in subject.component.branches.items():
        smallest = {extent.name: extent.smallest for extent in interface.axes_of("extent")}
        sizes = typical_sizes(interface, batch=1, length=1) | smallest | {axis: size}
        rng = np.random.default_rng(validation.seed)
        yield sample(interface, sizes, mask="ones", rng=rng, kind=f"{axis} of {size}")
    if validation.cover_embeddings:
        tokens, rows = tokens_to_cover(subject), _rows_at_once(subject)
        yield from covering_batches(interface, seed=validation.seed, tokens=tokens, rows_at_once=rows)


def tokens_to_cover(subject: Subject) -> int:
    """How many tokens of the vocabulary are looked up: all, or as many as the allowed arithmetic lets PyTorch run."""
    model = subject.component.module.model
    tables = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    looked_up = sum(table.numel() for table in tables)
    computed = sum(parameter.numel() for parameter in model.parameters()) - looked_up
    ids = subject.interface.content("token_ids")
    vocabulary = ids.below if ids else 0
    if _width(subject) >= vocabulary:  # scores for every token, from the same table
        computed += looked_up
    affordable = int(subject.spec.validation.cover_gflop * 1e9 / (2 * max(computed, 1)))
    return min(vocabulary, max(affordable, longest(subject.interface)))


def _width(subject: Subject) -> int:
    """The number of values that the widest output has for a token."""
    sizes = [axis for tensor in subject.graph.signature.outputs for axis in tensor.shape if isinstance(axis, int)]
    return max(sizes, default=1)


def _rows_at_once(subject: Subject) -> int:
    """How many rows of the largest length are run at once: few enough for both sides to hold in memory."""
    return max(1, min(_COVERING_ROWS, _COVERING_VALUES // (longest(subject.interface) * _width(subject))))
