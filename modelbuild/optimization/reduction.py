"""Another precision: the layers that the gate would not forgive stay in fp32.

What is measured is what the gate measures, on other sentences: those that ranges are found on. The graph in fp32 is the
truth here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from modelbuild.accuracy import Accuracy, accuracy_of, what_matters
from modelbuild.digest import sha256_file
from modelbuild.errors import OptimizeError
from modelbuild.interface import Interface
from modelbuild.operator_libraries import verified_libraries
from modelbuild.optimization.job import Reduce
from modelbuild.precision_spec import HalfPrecision, Int8Precision, Precision, WeightsPrecision
from modelbuild.precisions import PRECISIONS, Reducer
from modelbuild.precisions.sensitivity import reduce_within
from modelbuild.real_text import real_batches, takes_text
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.samples import Batch, sample
from modelbuild.sentences import CALIBRATION
from modelbuild.sizes import typical_sizes
from modelbuild.stage_spec import OptimizeSpec, Texts

# Without texts: so many random batches of each length.
_TURNS, _ROWS, _LENGTHS = 4, 4, (8, 32)
# The gate judges by other sentences, of which one may fare worse than all of these: only so much of what it allows is
# used up here.
_SHARE = 0.7


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked here: more than what the gate asks."""

    min_cosine: float
    min_top_1: float


def reduction(spec: OptimizeSpec, facts: Mapping[str, Any], inputs: Mapping[str, Path]) -> Reduce:
    """What writes one graph in the precision of `spec`. `facts` are what export said of the graph.

    It raises OptimizeError when the graph cannot be reduced or does not run on the texts, and ExportError when the
    tokenizer cannot be read or is not the one that was declared.
    """
    interface = Interface.of_facts(facts["interface"])
    batches = _texts(spec.texts, interface, inputs) or _seeded(interface)
    libraries = verified_libraries(spec.custom_ops, inputs)
    reducer = cast(Reducer, importlib.import_module(PRECISIONS[spec.precision.kind]))
    measured = _Measured(interface=interface, batches=batches, custom_ops=libraries)

    def reduce(form: Path, out: Path) -> dict[str, Any]:
        layers = len(reducer.layers(form, spec.precision))
        said: dict[str, Any] = {"kind": spec.precision.kind, "layers": layers, "kept_fp32": []}
        if isinstance(spec.precision, HalfPrecision):  # no CPU runs it as a GPU does: the gate measures it there
            reducer.reduce(form, out, spec.precision, custom_ops=libraries)
            return said
        return said | _within_limits(form, out, reducer, spec.precision, measured)

    return reduce


def _within_limits(
    form: Path, out: Path, reducer: Reducer, precision: Precision, measured: _Measured
) -> dict[str, Any]:
    """Write the graph with as few layers in fp32 as the limits need, and say which, and what was measured."""
    assert isinstance(precision, Int8Precision | WeightsPrecision)
    asked = _Asked(min_cosine=_stricter(precision.min_cosine), min_top_1=_stricter(precision.min_top_1))
    truth = list(measured.outputs(form))
    seen: dict[float, Accuracy] = {}

    def measure(file: Path) -> float:
        pairs = zip(measured.batches, truth, measured.outputs(file), strict=True)
        found = accuracy_of(measured.interface, pairs, asked)
        _say(f"{precision.kind}: {found.line('rows')}")
        seen[found.worst] = found
        return found.worst

    kept = reduce_within(
        form,
        out,
        reducer,
        precision,
        calibration=[batch.inputs for batch in measured.batches],
        custom_ops=measured.custom_ops,
        measure=measure,
        limit=0.0,
        most=precision.max_fp32_layers,
    )
    return {
        "kept_fp32": list(kept.layers),
        "met": kept.met,
        "rows": sum(len(next(iter(batch.inputs.values()))) for batch in measured.batches),
        "accuracy": seen[kept.after].facts(),
    }


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What graphs are run on, to see what a precision does to them."""

    interface: Interface
    batches: Sequence[Batch]
    custom_ops: tuple[str, ...]

    def outputs(self, file: Path) -> Iterator[dict[str, Any]]:
        """What the graph in `file` gives for each batch, of the outputs that are measured."""
        settings = SessionSettings(allow_spinning=False, custom_ops=self.custom_ops)
        names = [output.name for output in what_matters(self.interface)]
        try:
            session = open_session(file, providers=[("cpu", {})], settings=settings)
            for batch in self.batches:
                yield dict(zip(names, session.run(names, batch.inputs), strict=True))
        except Exception as error:
            raise OptimizeError(f"the graph in another precision does not run: {error}") from error


def _stricter(limit: float) -> float:
    return 1 - (1 - limit) * _SHARE


def _texts(texts: Texts | None, interface: Interface, inputs: Mapping[str, Path]) -> list[Batch]:
    """The calibration sentences through the model's tokenizer; none for a graph that takes no text."""
    if texts is None or "source" not in inputs or not takes_text(interface):
        return []
    folder = inputs["source"]
    for name, expected in texts.files.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != expected:
            raise OptimizeError(
                f"{name} changed while it was being built", where=str(folder), hint="run the build again"
            )
    return real_batches(folder / texts.tokenizer_folder, interface, CALIBRATION)


def _seeded(interface: Interface) -> list[Batch]:
    """Random inputs, where there is no text."""
    rng = np.random.default_rng(0)
    sizes = [typical_sizes(interface, batch=_ROWS, length=length, past=length) for length in _LENGTHS * _TURNS]
    return [sample(interface, size, mask="ones", rng=rng) for size in sizes]


def _say(line: str) -> None:
    print(f"optimize: {line}", file=sys.stderr, flush=True)
