"""ONNX Runtime ignores the name of an optimizer that it does not know, so that the names must be right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelbuild.candidates import ort_level
from modelbuild.graph import MODEL_FILE, read_graph

pytestmark = pytest.mark.slow

_OPEN = """
import sys, onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 0
options.graph_optimization_level = ort.GraphOptimizationLevel(int(sys.argv[2]))
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"], disabled_optimizers=sys.argv[3:])
"""


def _that_ran(model: Path, level: int, disabled: tuple[str, ...] = ()) -> set[str]:
    """The names of the optimizers that ONNX Runtime's log says were applied."""
    words = [sys.executable, "-c", _OPEN, str(model), str(level), *disabled]
    log = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    return set(re.findall(r"GraphTransformer (\w+) modified", log))


@pytest.mark.parametrize(("kind", "level"), [("basic", 1), ("extended", 2)])
def test_every_name_is_one_that_onnxruntime_runs_and_leaves_out_when_told(
    kind: str, level: int, exported: Path
) -> None:
    names = ort_level.fusions(kind, {})
    assert set(names) <= _that_ran(exported / MODEL_FILE, level)
    assert not set(names) & _that_ran(exported / MODEL_FILE, level, names)


def test_what_is_left_out_is_not_in_the_file(exported: Path, tmp_path: Path) -> None:
    counts = []
    for without in (frozenset[str](), frozenset({"SkipLayerNormFusion"})):
        out = tmp_path / str(len(without))
        out.mkdir()
        ort_level.optimize("extended", exported / MODEL_FILE, {}, out / MODEL_FILE, without)
        counts.append(read_graph(out / MODEL_FILE).operators.get("com.microsoft.SkipLayerNormalization", 0))
    assert counts[0] > 0 == counts[1]
