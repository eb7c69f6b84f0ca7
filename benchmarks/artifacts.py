"""The graphs that everyone makes of a model, as sides that can be measured, and what can be asked of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from makers import (
    HERE,
    olive_command,
    optimum_command,
    our_command,
    our_environment,
    our_overrides,
    peer,
    peer_environment,
    resolved,
    write_olive_config,
)
from measuring import last_line
from random_models import Checkpoint

from modelbuild.errors import ModelbuildError
from modelbuild.measure.processes import MeasuredProcess
from modelbuild.measure.sides import Arrays, Loaded, OnnxruntimeSide, PytorchSide, Side
from modelbuild.pipeline.fingerprint import host
from modelbuild.runtime.cores import usable_cores
from modelbuild.runtime.session import SessionSettings
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import BenchmarkSpec

PYTORCH = "PyTorch eager"
PLAIN = "modelbuild, plain graph"
OURS = "modelbuild"
PEERS = ("Optimum", "Optimum O2", "Olive")
OUTPUT = "last_hidden_state"
# Operators that multiply by a constant matrix, quantized or not.
_LINEAR = frozenset(
    ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Attention", "QAttention", "QGemm", "QLinearMatMul", "MatMulInteger")
) | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model that artifacts are made of: where its checkpoint is, and where everyone may work."""

    checkpoint: Checkpoint
    folder: Path
    work: Path


def peer_graph(name: str, source: Source) -> Path:
    """The graph that peer `name` makes, from an earlier run if its versions and its command were the same."""
    place = source.work / "artifacts" / source.checkpoint.name / name.replace(" ", "-").lower()
    kind = "olive" if name == "Olive" else "optimum"
    programs = peer(kind, source.work)
    if kind == "olive":
        config = write_olive_config(source.checkpoint, source.folder, place)
        command = olive_command(programs, config)
        said, graph = config.read_text(encoding="utf-8"), place / "out" / "model.onnx"
    else:
        level = "O2" if name.endswith("O2") else None
        command = optimum_command(programs, source.checkpoint, source.folder, place / "out", level)
        said, graph = " ".join(command), place / "out" / f"{source.checkpoint.graph}.onnx"
    mark = place / "made"
    made = said + (HERE / f"{kind}.txt").read_text(encoding="utf-8")
    if not mark.exists() or mark.read_text(encoding="utf-8") != made:
        for left in ("out", "cache"):
            shutil.rmtree(place / left, ignore_errors=True)
        run(command, place, peer_environment())
        mark.write_text(made, encoding="utf-8")
    if not graph.exists():
        raise SystemExit(f"{name} made no {graph}: see {place / 'log'}")
    return graph


def our_package(name: str, overrides: Sequence[str], work: Path) -> Path:
    """The package `name` of the build of these overrides. What has not changed is not built again."""
    place = work / "modelbuild"
    package = place / "packages" / name
    run(our_command(*overrides, f"out={package}"), place, our_environment())
    return package


def run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
    """Run `command` in `folder`, its words in the file `log` there. Raises SystemExit, with the last line, if it
    fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as stream:
        done = subprocess.run(command, cwd=folder, env=dict(env), stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with status {done.returncode}: {last_line(log)} (see {log})")


def fp32_sides(source: Source, options: Sequence[str], search: Sequence[str]) -> dict[str, Side]:
    """PyTorch, the peers' graphs, our plain graph and the one that a search found, all with the same threads. `options`
    are further overrides of our builds, and `search` those that choose the search.
    """
    checkpoint = source.checkpoint
    sides: dict[str, Side] = {PYTORCH: pytorch_side(our_overrides(checkpoint, source.folder), checkpoint, source.work)}
    sides |= {name: graph_side(peer_graph(name, source)) for name in PEERS}
    for name, kind, chosen_by in ((PLAIN, "none", ["optimization=none"]), (OURS, "auto", search)):
        overrides = our_overrides(checkpoint, source.folder, *chosen_by, *options)
        package = our_package(f"{checkpoint.name}-{kind}", overrides, source.work)
        sides[name] = graph_side(package / f"{checkpoint.graph}.onnx")
    return sides


def without_those_that_fail(
    sides: Mapping[str, Side], allowed: Sequence[str]
) -> tuple[dict[str, Side], dict[str, str]]:
    """The sides that load here, and what the others say, of those whose failure is a finding and no end: `allowed`."""
    kept, failed = dict(sides), {}
    for name in allowed:
        try:
            with MeasuredProcess(name, sides[name]):
                continue
        except ModelbuildError as error:
            failed[name] = str(error).splitlines()[0]
            del kept[name]
    return kept, failed


def graph_side(graph: Path) -> OnnxruntimeSide:
    """A graph on the CPU, with as many threads as this process may use."""
    settings = SessionSettings(intra_op_num_threads=usable_cores())
    return OnnxruntimeSide(model=graph, outputs=(OUTPUT,), providers=(("cpu", {}),), settings=settings)


def pytorch_side(overrides: Sequence[str], checkpoint: Checkpoint, work: Path) -> PytorchSide:
    """The original of a build, in eager mode."""
    build = resolved(overrides, work)
    spec = stage_specs(build, host())["benchmark"]
    assert isinstance(spec, BenchmarkSpec)
    return PytorchSide(
        model=spec.model,
        task=build.task,
        component=checkpoint.graph,
        folder=build.located.folder,
        threads=usable_cores(),
    )


def batch(checkpoint: Checkpoint, shape: Sequence[int], rng: np.random.Generator, padding: int = 0) -> dict[str, Any]:
    """Inputs for a graph: images, or tokens without padding, or with `padding` at the left of the first row."""
    if checkpoint.task.startswith("image-"):
        return {"pixel_values": rng.standard_normal((shape[0], 3, 224, 224), dtype=np.float32)}
    mask = np.ones(tuple(shape), dtype=np.int64)
    mask[0, :padding] = 0
    inputs = {"input_ids": rng.integers(1, 30000, tuple(shape)), "attention_mask": mask}
    return inputs | ({"token_type_ids": np.zeros_like(mask)} if checkpoint.model_type == "bert" else {})


def answer(loaded: Loaded, inputs: Arrays) -> npt.NDArray[Any]:
    """What a loaded side makes of `inputs`; asked of it in its process."""
    found = loaded.call(inputs)
    if isinstance(found, Mapping):
        return np.asarray(found[OUTPUT])
    assert isinstance(found, list)
    return np.asarray(found[0])


def linear_layers(graph: Path) -> dict[str, int]:
    """How many operators of `graph` multiply by a constant matrix of floats, and of integers."""
    model = onnx.load(str(graph), load_external_data=False).graph
    types = {tensor.name: tensor.data_type for tensor in model.initializer if len(tensor.dims) >= 2}
    found = Counter(
        "fp32" if types[node.input[1]] in _FLOATS else "quantized"
        for node in model.node
        if node.op_type in _LINEAR and len(node.input) > 1 and node.input[1] in types
    )
    return {kind: found[kind] for kind in ("fp32", "quantized")}


def chosen(package: Path, graph: str) -> str:
    """The kind of optimization that the graph of `package` has, which a search may have chosen."""
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    told = manifest["optimization"][graph]
    return str(told.get("search", {}).get("chosen", told["kind"]))
