"""Decoders as decoders: a text made step by step with the cache, against PyTorch, itself at once, alone and beside
others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from modelbuild.checks.runs import Runs
from modelbuild.decoding import DECODERS, Decoder, DecodingModule
from modelbuild.decoding.follow import at_once, in_pieces, step_by_step
from modelbuild.decoding.prompt import Prompt
from modelbuild.errors import first_line
from modelbuild.generation import Generated, generate
from modelbuild.parity import AnyRule, Finding, Usual, Values, worst_of
from modelbuild.report import Check

Array = npt.NDArray[Any]

_TOKENS = 32
# The longest is the first; the others are padded to it.
_LENGTHS = (7, 3, 5)
_LEAST = 2  # tokens that must fit after a prompt for there to be a step


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Prompts of several lengths, what PyTorch makes of each of them alone, and the decoder by the graphs that ship."""

    module: DecodingModule
    runs: Mapping[str, Runs]
    prompt: Prompt
    truth: tuple[Generated, ...]

    def decoder(self) -> Decoder:
        interfaces = {name: runs.subject.interface for name, runs in self.runs.items()}
        return self.module.decoder(self._run, interfaces)

    def _run(self, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        runs = self.runs[graph]
        names = list(runs.subject.interface.output_names())
        return dict(zip(names, runs.session.run(names, dict(inputs)), strict=True))

    @cached_property
    def usual(self) -> Usual:
        """What was seen to be usual for scores, in any graph."""
        seen = [
            runs.usual[output.name]
            for runs in self.runs.values()
            for output in runs.subject.interface.outputs
            if output.meaning == "scores"
        ]
        return Usual(error=max(usual.error for usual in seen), scale=max(usual.scale for usual in seen))

    @cached_property
    def alone(self) -> tuple[Array, ...]:
        """The scores of each row alone, step by step, when its tokens are PyTorch's."""
        return tuple(
            step_by_step(self.decoder(), self.prompt.row(number), truth.tokens)
            for number, truth in enumerate(self.truth)
        )

    @property
    def rule(self) -> AnyRule:
        """The one rule of all graphs."""
        return next(iter(self.runs.values())).rule

    def allowed(self, scores: Array) -> float:
        """How far scores may be off from these, which are PyTorch's."""
        return float(np.max(self.rule.allowed(_only(scores), self.usual)))

    def finding(self, check: str, where: str, ours: Array, others: Mapping[str, Array]) -> Finding:
        """How far scores are off from others, which are called what they are. Where those are ours too, both may be
        off.
        """
        (name, other), *_ = others.items()
        between = self.rule.between(_only(other), self.usual, again=False)
        limit = self.allowed(other) if name == "torch" else between
        if ours.shape != other.shape:
            shapes = f"{where}: shape {ours.shape}, {name} {other.shape}"
            return Finding(check=check, value=float("inf"), limit=limit, where=shapes)
        off = np.abs(ours.astype(np.float64) - other)
        off[np.isnan(off)] = np.inf
        at = np.unravel_index(int(np.argmax(off)), off.shape)
        told = f"{where}, step {at[1] + 1}, token {at[2]}: onnx {ours[at]:.6g}, {name} {other[at]:.6g}"
        return Finding(check=check, value=float(off[at]), limit=limit, where=told)


def _only(scores: Array) -> Values:
    """Scores `(batch, step, vocabulary)` that are all there is."""
    valid = np.ones(scores.shape[:2], dtype=bool)
    return Values(output="", case="", candidate=scores, reference=scores, oracle=None, valid=valid)


def examine(runs: Mapping[str, Runs]) -> Iterator[Check]:
    """The graphs of one model, together. Nothing for a model that makes nothing step by step, or takes too little."""
    subject = next(iter(runs.values())).subject
    if subject.task.family not in DECODERS:
        return
    module = cast(DecodingModule, importlib.import_module(DECODERS[subject.task.family]))
    trial = _trial(module, runs)
    if trial is None:
        return
    parts: dict[str, tuple[str, Callable[[_Trial], Iterator[Finding]]]] = {
        "decoding scores": ("prompts step by step, with PyTorch's generate", _scores),
        "decoding recompute": ("prompts step by step with the cache, and at once without", _recompute),
        "decoding padding": ("prompts alone, and padded beside longer ones", _padding),
        "decoding pieces": ("cuts of a prompt that is read in two pieces, and at once", _pieces),
    }
    works = True
    for name, (compared, find) in parts.items():
        try:
            findings = list(find(trial))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no other base class
            works = False
            findings = [Finding(check=name, value=float("inf"), limit=1.0, where=f"does not run: {first_line(error)}")]
        yield from worst_of(findings, f"{{count}} {compared}")
    if works:
        yield _tokens(trial)


def _trial(module: DecodingModule, runs: Mapping[str, Runs]) -> _Trial | None:
    """What is tried, with as many tokens as fit; None where there is no room for a prompt and a step."""
    subject = next(iter(runs.values())).subject
    interfaces = {name: each.subject.interface for name, each in runs.items()}
    room = module.room(interfaces)
    longest = min(_LENGTHS[0], room - _LEAST)
    if longest < 1:
        return None
    rng = np.random.default_rng(subject.spec.validation.seed)
    config: Any = subject.reference.config
    prompt = module.prompts(interfaces, config, [min(length, longest) for length in _LENGTHS], rng)
    count = min(_TOKENS, room - prompt.tokens.shape[1])
    truth = tuple(
        generate(subject.reference, module.generate_inputs(prompt.row(number)), count)
        for number in range(len(prompt.tokens))
    )
    return _Trial(module=module, runs=runs, prompt=prompt, truth=truth)


def _scores(trial: _Trial) -> Iterator[Finding]:
    for number, truth in enumerate(trial.truth):
        yield trial.finding("decoding scores", _name(trial, number), trial.alone[number], {"torch": truth.scores})


def _recompute(trial: _Trial) -> Iterator[Finding]:
    for number, truth in enumerate(trial.truth):
        whole = at_once(trial.decoder(), trial.prompt.row(number), truth.tokens)
        yield trial.finding("decoding recompute", _name(trial, number), trial.alone[number], {"at once": whole})


def _padding(trial: _Trial) -> Iterator[Finding]:
    tokens = np.concatenate([truth.tokens for truth in trial.truth])
    together = step_by_step(trial.decoder(), trial.prompt, tokens)
    for number, alone in enumerate(trial.alone):
        row = together[number : number + 1]
        yield trial.finding("decoding padding", _name(trial, number), row, {"alone": alone})


def _pieces(trial: _Trial) -> Iterator[Finding]:
    """One token and the rest, two halves, and all but the last token."""
    whole = trial.prompt.row(0).then(trial.truth[0].tokens[:, :-1])
    length = whole.tokens.shape[1]
    once = trial.decoder().first(whole)
    for cut in sorted({1, length // 2, length - 1}):
        pieces = in_pieces(trial.decoder(), whole, cut)
        where = f"{length} tokens, the first {cut} before the others"
        yield trial.finding("decoding pieces", where, pieces, {"at once": once})


def _name(trial: _Trial, number: int) -> str:
    return f"a prompt of {trial.prompt.length(number)}"


def _tokens(trial: _Trial) -> Check:
    """Whether the best token is PyTorch's at every step, or in reduced precision at as many as were asked for. Where
    PyTorch's two best are closer than what both may be off, another is a tie, which is said and does not count.
    """
    wrong, ties, where = 0, 0, ""
    for number, (ours, truth) in enumerate(zip(trial.alone, trial.truth, strict=True)):
        off_by = trial.allowed(truth.scores)
        for step in np.flatnonzero(ours[0].argmax(axis=-1) != truth.tokens[0]):
            second, best = np.sort(truth.scores[0, step])[-2:]
            tie = bool(best - second <= trial.rule.tie(off_by))
            wrong, ties = wrong + (not tie), ties + tie
            if (not tie and wrong == 1) or (tie and not where):
                off = float(np.max(np.abs(ours[0, step] - truth.scores[0, step])))
                where = (
                    f"{_name(trial, number)}, step {step + 1}: {'a tie: ' if tie else ''}"
                    f"{int(ours[0, step].argmax())} where PyTorch has {int(truth.tokens[0, step])} "
                    f"by {best - second:.3g}; ours is off by {off:.3g}"
                )
    steps = sum(truth.tokens.shape[1] for truth in trial.truth)
    said = f"; {ties} {'tie' if ties == 1 else 'ties'}" if ties else ""
    compared = f"{steps} greedy tokens with PyTorch's generate{said}"
    limit = trial.rule.other_tokens(steps)
    return Check(
        name="decoding tokens", passed=wrong <= limit, compared=compared, worst=wrong, limit=limit, where=where
    )
