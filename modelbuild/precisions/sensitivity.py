"""Which linear layers stay in fp32, where a graph with all of them in another precision is not good enough.

Layers are ranked once, each by what the precision does to it alone: the squared error of its product as a share of the
product, on rows that it reads in the fp32 graph. (ONNX Runtime's `qdq_loss_debug` has the same measure, as a signal to
noise ratio, and its authors advise to leave the worst layers out.) All layers are put side by side in one graph for
that, which is reduced once. Of the ranking as few of the first as do are then kept, found by bisection with the measure
that decides: a layer's own error does not say what the layers after it make of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelbuild.graph import data_file
from modelbuild.precision_spec import Precision
from modelbuild.precisions import Arrays, Reducer
from modelbuild.precisions.inside import open_inside
from modelbuild.precisions.linear_layers import LinearLayer, load_model, save_model, top_layers
from modelbuild.precisions.sampled_rows import Sample, sample_rows

# How good the graph in a file is: more is better.
Measure = Callable[[Path], float]
_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The layers that stay in fp32, the most sensitive first; what was measured with none and with these, and how often
    that was.
    """

    layers: tuple[str, ...]
    before: float
    after: float
    limit: float
    evaluations: int

    @property
    def met(self) -> bool:
        """Whether the graph is as good as was asked."""
        return self.after >= self.limit

    def facts(self) -> dict[str, object]:
        """The same as plain data, for a report."""
        return {
            "fp32_layers": list(self.layers),
            "before": self.before,
            "after": self.after,
            "limit": self.limit,
            "evaluations": self.evaluations,
        }


def reduce_within(
    source: Path,
    out: Path,
    reducer: Reducer,
    precision: Precision,
    *,
    calibration: Sequence[Arrays],
    custom_ops: Sequence[str] = (),
    measure: Measure,
    limit: float,
    most: int,
) -> Kept:
    """Write to `out` the graph in `source` in `precision`, with as few linear layers in fp32 as `measure` needs to give
    at least `limit`, and at most so many. Where that is not enough, the best that was found is written.

    It reduces and measures once where nothing need be kept, and at most 2 + log2(`most`) times, rounded up, otherwise;
    and reduces the layers alone once more to rank them. Raises what `reducer.reduce` and `measure` raise.
    """
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".reduced.") as scratch:
        attempts = _Attempts(
            reduce=lambda file, keep: reducer.reduce(
                source, file, precision, keep=keep, calibration=calibration, custom_ops=custom_ops
            ),
            measure=measure,
            limit=limit,
            folder=Path(scratch),
            name=out.name,
        )
        before = attempts.with_kept(())
        if not before >= limit and most > 0:
            errors = layer_errors(source, reducer, precision, calibration, custom_ops)
            attempts.fewest(sorted(errors, key=lambda name: -errors[name])[:most])
        attempts.hand_over(out)
        return Kept(layers=attempts.best, before=before, after=attempts.figure, limit=limit, evaluations=attempts.made)


@dataclass(kw_only=True)
class _Attempts:
    """Files with different layers in fp32, of which the `best` so far stays."""

    reduce: Callable[[Path, frozenset[str]], None]
    measure: Measure
    limit: float
    folder: Path
    name: str
    made: int = 0
    best: tuple[str, ...] = ()
    figure: float = float("nan")

    def with_kept(self, layers: Sequence[str]) -> float:
        """What is measured with those layers in fp32."""
        self.made += 1
        file = self._file(layers)
        file.parent.mkdir()
        self.reduce(file, frozenset(layers))
        figure = self.measure(file)
        if self.made == 1 or self._is_better(figure, layers):
            worse, self.best, self.figure = self.best, tuple(layers), figure
        else:
            worse = tuple(layers)
        if worse != self.best:
            shutil.rmtree(self._file(worse).parent)
        return figure

    def _is_better(self, figure: float, layers: Sequence[str]) -> bool:
        """Good enough with fewer layers; or better than what is not good enough."""
        if self.figure >= self.limit:
            return figure >= self.limit and len(layers) < len(self.best)
        return not np.isnan(figure) and not figure <= self.figure

    def fewest(self, order: Sequence[str]) -> None:
        """Try how many of the first of `order` must be kept, which is more than none."""
        if not order or not self.with_kept(order) >= self.limit:
            return
        too_few, enough = 0, len(order)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if self.with_kept(order[:middle]) >= self.limit:
                enough = middle
            else:
                too_few = middle

    def hand_over(self, out: Path) -> None:
        """Put the best file, and its weights, where they are wanted."""
        made = self._file(self.best)
        for name in (data_file(self.name), self.name):
            if (made.parent / name).exists():
                os.replace(made.parent / name, out.parent / name)

    def _file(self, layers: Sequence[str]) -> Path:
        return self.folder / str(len(layers)) / self.name


def layer_errors(
    source: Path,
    reducer: Reducer,
    precision: Precision,
    batches: Sequence[Arrays],
    custom_ops: Sequence[str] = (),
) -> Mapping[str, float]:
    """The squared error of each linear layer's product in `precision`, as a share of the product: for those in no
    subgraph, on rows that they read when the graph runs on the batches.
    """
    reduced = set(reducer.layers(source, precision))
    layers = [layer for layer in top_layers(load_model(source)) if layer.name in reduced]
    samples = sample_rows(source, sorted({_read(layer) for layer in layers}), batches, custom_ops)
    layers = [layer for layer in layers if _read(layer) in samples]
    if not layers:
        return {}
    rows = {name: sample.rows for name, sample in samples.items()}
    with tempfile.TemporaryDirectory(prefix="layers.") as scratch:
        exact, rounded = (Path(scratch) / f"{name}.onnx" for name in ("exact", "rounded"))
        save_model(_side_by_side(layers, samples, load_model(source)), exact)
        reducer.reduce(exact, rounded, precision, calibration=[rows])
        wanted, found = (open_inside(file, []).run(None, rows) for file in (exact, rounded))
    return {
        layer.name: float(np.square(one - other).sum() / max(float(np.square(one).sum()), _TINY))
        for layer, one, other in zip(layers, wanted, found, strict=True)
    }


def _read(layer: LinearLayer) -> str:
    value = layer.node.inputs[0]
    assert value is not None
    return str(value.name)


def _side_by_side(layers: Sequence[LinearLayer], samples: Mapping[str, Sample], model: ir.Model) -> ir.Model:
    """A graph in which each layer multiplies rows of what it reads, without its bias."""
    inputs = {
        name: ir.Value(name=name, shape=ir.Shape([f"rows of {name}", sample.rows.shape[1]]), type=_FLOAT)
        for name, sample in samples.items()
    }
    weights, nodes = [], []
    for place, layer in enumerate(layers):
        matrix = ir.tensor(np.ascontiguousarray(layer.matrix()), name=f"weight {place}")
        weights.append(ir.Value(name=matrix.name, shape=matrix.shape, type=_FLOAT, const_value=matrix))
        nodes.append(ir.node("MatMul", [inputs[_read(layer)], weights[-1]], name=layer.name))
        output = nodes[-1].outputs[0]
        output.name, output.type = f"product {place}", _FLOAT
        output.shape = ir.Shape([f"rows of {_read(layer)}", matrix.shape[1]])
    graph = ir.Graph(
        list(inputs.values()),
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=weights,
        opset_imports=dict(model.opset_imports),
        name="layers",
    )
    return ir.Model(graph, ir_version=model.ir_version)
