"""A tiny BERT with an operator of its own, through all stages, from its file to a process that has no PyTorch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from operator_library import DOMAIN, OPERATOR, SOURCE, compiled
from processes import builds, run, stages_started

from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.graph import read_graph
from modelbuild.pipeline.driver import resolve_here
from modelbuild.pipeline.project import Workspace
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import ExportSpec
from modelbuild.stages import STAGES, export

pytestmark = pytest.mark.slow
MODEL_FILE = "model.onnx"
WORDS = (
    "model=bert-tiny", "exporter=file", "exporter.path=own/model.onnx", "optimization=extended", "validation=quick",
    "benchmark=quick", "benchmark.batch_sizes=[1]", "benchmark.rounds=5",
)  # fmt: skip
LIBRARY = "session.custom_ops=[own/libmine.so]"
# Runs in a process of its own, where nothing heavy can be imported.
SCRIPT = """
import sys
import numpy as np

blocked = {"torch", "transformers", "onnx", "onnx_ir", "pydantic", "hydra", "dvc", "jinja2", "yaml"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
from modelbuild.runtime import load

model = load(sys.argv[1])
golden = np.load(sys.argv[1] + "/golden.npz")
given = {name.removeprefix("model/input."): golden[name] for name in golden.files if "/input." in name}
assert np.allclose(model.run(given)["last_hidden_state"], golden["model/output.last_hidden_state"], atol=1e-5)
"""


@pytest.fixture(scope="module")
def with_operator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export of the tiny BERT in which every Erf is an operator that nobody else knows."""
    folder = tmp_path_factory.mktemp("export")
    spec = stage_specs(resolve_here(compose(["model=bert-tiny", "opset=18"], folder).spec, Workspace(folder)), {})[
        "export"
    ]
    assert isinstance(spec, ExportSpec)
    (folder / "out").mkdir()
    export.run(spec, {}, folder / "out")
    model = ir.load(folder / "out" / MODEL_FILE)
    replaced = [node for node in model.graph if node.op_type == "Erf"]
    for node in replaced:
        node.domain, node.op_type, node.version = DOMAIN, OPERATOR, 1
    assert len(replaced) == 2
    model.opset_imports[DOMAIN] = 1
    (folder / "own").mkdir()
    ir.save(model, folder / "own" / "model.onnx", external_data="weights")
    return folder / "own"


@pytest.fixture
def own(with_operator: Path, tmp_path: Path) -> Path:
    """The folder `own` of a workspace: the graph, and its library."""
    folder = Path(shutil.copytree(with_operator, tmp_path / "own"))
    compiled(folder / "libmine.so")
    return folder


def package_in(workspace: Path) -> Path:
    (build,) = builds(workspace)
    return build / "package"


def test_a_graph_with_an_operator_of_its_own_becomes_a_verified_package_that_runs_without_pytorch(
    own: Path, tmp_path: Path
) -> None:
    finished = run(*WORDS, LIBRARY, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    package = package_in(tmp_path)
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["verified"]
    assert manifest["session"]["custom_ops"] == ["custom_ops/libmine.so"]
    assert manifest["build"]["session"]["custom_ops"] == ["libmine.so"]
    assert manifest["files"]["custom_ops/libmine.so"]["sha256"] == sha256_file(own / "libmine.so")
    assert read_graph(package / MODEL_FILE).operators[f"{DOMAIN}.{OPERATOR}"] == 2
    assert manifest["benchmark"]["status"] == "measured"
    texts = [package.parent / "params.yaml", *package.glob("*.json"), *package.glob("*.html"), *package.glob("*.md")]
    assert not [file for file in texts if str(tmp_path).encode() in file.read_bytes()]
    elsewhere = tmp_path / "elsewhere"
    package.rename(elsewhere)
    own.rename(tmp_path / "gone")
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(elsewhere)]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert (loaded.stdout, loaded.stderr, loaded.returncode) == ("", "", 0)
    blocks = re.findall(r"```python\n(.*?)```", (elsewhere / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    alone = subprocess.run(
        [sys.executable, "-c", blocks[-1]], capture_output=True, text=True, check=False, cwd=elsewhere
    )
    assert (alone.stdout, alone.returncode) == ("[(2, 8, 32)]\n", 0), alone.stderr


def test_a_library_that_moved_runs_nothing_again_and_one_of_another_content_all_that_open_sessions(
    own: Path, tmp_path: Path
) -> None:
    words = [*(word for word in WORDS if not word.startswith("benchmark")), "benchmark=off"]
    finished = run(*words, LIBRARY, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    (tmp_path / "lib").mkdir()
    moved = (own / "libmine.so").rename(tmp_path / "lib" / "libmine.so")
    again = run(*words, "session.custom_ops=[lib/libmine.so]", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert stages_started(tmp_path) == dict.fromkeys(STAGES, 1)
    before = sha256_file(moved)
    compiled(moved, api=11)
    assert sha256_file(moved) != before
    changed = run(*words, "session.custom_ops=[lib/libmine.so]", cwd=tmp_path)
    assert changed.returncode == 0, changed.stderr
    assert stages_started(tmp_path) == dict.fromkeys(STAGES, 2) | {"sidecar": 1}


def test_a_library_that_computes_something_else_is_found_by_validation_and_the_place_is_named(
    own: Path, tmp_path: Path
) -> None:
    compiled(own / "libmine.so", factor=1.01)
    finished = run(*WORDS, "benchmark=off", LIBRARY, cwd=tmp_path)
    assert finished.returncode == 5, finished.stderr
    first, place, cause = finished.stderr.splitlines()[-3:]
    assert first.startswith("error[VAL]: validation failed: parity.last_hidden_state: ")
    assert "first departs in encoder.layer.0.intermediate" in place
    assert cause.endswith("no optimization brings it in: the exported graph has it already")


@pytest.mark.parametrize(
    ("library", "code", "message"),
    [
        ("", 3, "error[EXP]: ONNX Runtime has no operator 'MyErf' of the domain 'my.ops': "),
        ("session.custom_ops=[own/libmin.so]", 2, "error[CFG]: no such library of custom operators: "),
        ("session.custom_ops=[own/model.onnx]", 2, "error[CFG]: not a shared library: "),
        ("session.custom_ops=[own/libmine.so,own/libmine.so]", 2, "have one file name: name a library once"),
    ],
)
def test_what_is_wrong_with_libraries_is_said_before_any_work(
    library: str, code: int, message: str, own: Path, tmp_path: Path
) -> None:
    finished = run(*WORDS, *filter(None, [library]), cwd=tmp_path)
    (line,) = finished.stderr.splitlines()
    assert (finished.returncode, message in line, stages_started(tmp_path)) == (code, True, {})


def test_an_operator_that_is_not_in_the_library_either_is_named_with_both(own: Path, tmp_path: Path) -> None:
    source = SOURCE.replace(f'"{OPERATOR}"', '"Another"')
    compiled(own / "libmine.so", source)
    finished = run(*WORDS, LIBRARY, cwd=tmp_path)
    assert finished.returncode == 3, finished.stderr
    assert finished.stderr.splitlines()[-1] == (
        "error[EXP]: ONNX Runtime has no operator 'MyErf' of the domain 'my.ops', nor has libmine.so: "
        f"{own / 'model.onnx'}: name the library that has it: session.custom_ops=[…]"
    )


def test_the_operator_is_right_to_the_last_bits(own: Path) -> None:
    import onnxruntime as ort
    import torch
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    node = helper.make_node(OPERATOR, ["x"], ["y"], domain=DOMAIN)
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(own / "libmine.so"))
    model = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    x = np.linspace(-4, 4, 1001, dtype=np.float32)
    (found,) = ort.InferenceSession(model, options).run(None, {"x": x})
    assert np.allclose(found, torch.erf(torch.from_numpy(x)).numpy(), rtol=0, atol=2e-7)
