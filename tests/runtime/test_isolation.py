from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("dvc", "hydra", "jinja2", "omegaconf", "onnx", "optimum", "pydantic", "rich", "torch", "transformers", "yaml")

# Runs in a process of its own, where the modules named by the last argument cannot be imported.
SCRIPT = """
import sys

package, heavy, blocked = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
from modelbuild.runtime import load

model = load(package)
outputs = model.run({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]})
assert outputs["states"].shape == (1, 2, 4), outputs
loaded = {name.partition(".")[0] for name in sys.modules}
print("loaded:", *sorted(loaded & set(heavy)))
"""


def run(package: Path, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-W", "error", "-c", SCRIPT, str(package), ",".join(HEAVY), ",".join(blocked)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_the_runtime_runs_a_package_where_heavy_libraries_cannot_be_imported(package: Path) -> None:
    result = run(package, blocked=HEAVY)
    assert (result.stdout, result.stderr, result.returncode) == ("loaded:\n", "", 0)


def test_the_runtime_imports_no_heavy_library_where_they_can_be_imported(package: Path) -> None:
    result = run(package, blocked=("none_of_them",))
    assert (result.stdout, result.stderr, result.returncode) == ("loaded:\n", "", 0)


@pytest.mark.parametrize("needed", ["numpy", "onnxruntime"])
def test_a_library_that_is_blocked_is_not_there(needed: str, package: Path) -> None:
    result = run(package, blocked=(needed,))
    assert result.returncode == 1
    assert f"ModuleNotFoundError: {needed} is blocked" in result.stderr
