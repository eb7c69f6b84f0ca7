"""The onnxruntime-gpu wheel on a machine without CUDA: CUDA is listed, and a session opens without it and without a
word. A fixture makes such an environment; the wheel (about 250 MB) comes from the package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import builds

from modelbuild.providers import PROVIDERS

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[1]
WHEEL = "onnxruntime-gpu==1.31.1"
TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
BUILD = ("model=bert-tiny", "validation=quick", "benchmark=off", "optimization=none")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python with every package of the running one, but onnxruntime-gpu for onnxruntime."""

    python: Path
    libraries: Path

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """`python` with `arguments`, where no GPU is seen."""
        variables = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
        variables |= {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "-1"}
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="session")
def gpu_wheel(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """That environment, made once. It fails, and skips nothing, where the wheel cannot be had."""
    folder = tmp_path_factory.mktemp("gpu-wheel")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, capture_output=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), WHEEL],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, f"{WHEEL} cannot be had: {installed.stderr}"
    for packages in map(Path, sys.path):
        if packages.name in ("site-packages", "dist-packages"):
            _link(packages, site)
    return Environment(python=folder / "bin" / "python", libraries=site / "onnxruntime" / "capi")


def _link(packages: Path, site: Path) -> None:
    for entry in packages.iterdir():
        ours = entry.suffix == ".pth" or entry.name == "onnxruntime" or entry.name.startswith("onnxruntime-")
        if not ours and not os.path.lexists(site / entry.name):
            (site / entry.name).symlink_to(entry)


@pytest.fixture(scope="session")
def built(gpu_wheel: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for the CPU, built there."""
    workspace = tmp_path_factory.mktemp("built")
    finished = gpu_wheel.run("-m", "modelbuild", *BUILD, "providers=cpu", cwd=workspace)
    assert finished.returncode == 0, finished.stderr
    (build,) = builds(workspace)
    return build / "package"


OPEN = """
import importlib.metadata, sys
import onnxruntime
installed = {dist.name for dist in importlib.metadata.distributions() if dist.name.startswith("onnxruntime")}
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CUDAExecutionProvider"], enable_fallback=0)
print(sorted(installed), onnxruntime.get_available_providers(), session.get_providers(), sep="\\n")
"""

LOAD = """
import ast, sys
from modelbuild.runtime import HostError, load
try:
    print(load(sys.argv[1], providers=ast.literal_eval(sys.argv[2])).providers)
except HostError as error:
    print("refused:", *error.lines())
"""


def test_cuda_is_listed_and_a_session_opens_without_it(gpu_wheel: Environment, built: Path) -> None:
    result = gpu_wheel.run("-c", OPEN, str(built / "model.onnx"), cwd=built)
    assert result.stdout.splitlines() == ["['onnxruntime-gpu']", str([TENSORRT, CUDA, CPU]), str([CPU])]


@pytest.mark.parametrize(
    ("providers", "said", "needed"),
    [
        ("cuda", "CUDAExecutionProvider was asked for and ONNX Runtime opened CPUExecutionProvider instead", "cuDNN"),
        ("tensorrt", "opens no session on TensorrtExecutionProvider, CUDAExecutionProvider", "TensorRT"),
    ],
)
def test_a_build_stops_before_any_work_with_one_line(
    providers: str, said: str, needed: str, gpu_wheel: Environment, tmp_path: Path
) -> None:
    result = gpu_wheel.run("-m", "modelbuild", *BUILD, f"providers={providers}", cwd=tmp_path)
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (7, "")
    assert line.startswith("error[ENV]: ")
    assert said in line
    assert "this machine" in line
    assert "needs the onnxruntime-gpu wheel (modelbuild[gpu] instead of [cpu]), an NVIDIA driver, CUDA" in line
    assert needed in line
    assert list(tmp_path.iterdir()) == []


def test_a_plan_needs_no_gpu_and_starts_nothing(gpu_wheel: Environment, tmp_path: Path) -> None:
    for providers in ("cpu", "cuda"):
        result = gpu_wheel.run("-m", "modelbuild", "plan", *BUILD, f"providers={providers}", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"-{providers}-fp32-" in result.stdout
    assert builds(tmp_path) == []


@pytest.mark.parametrize(
    ("providers", "said"),
    [
        ("'cuda'", "CUDAExecutionProvider was asked for and ONNX Runtime opened CPUExecutionProvider instead"),
        ("['cuda', 'cpu']", "CUDAExecutionProvider was asked for and ONNX Runtime opened CPUExecutionProvider instead"),
        ("[('cuda', {'device_id': 99})]", "CUDAExecutionProvider was asked for and ONNX Runtime opened CPU"),
        ("[('cuda', {'use_tf23': 1})]", "CUDAExecutionProvider has no option 'use_tf23': did you mean 'use_tf32'?"),
        (
            "'tensorrt'",
            "ONNX Runtime opens no session on TensorrtExecutionProvider with these settings: Please install",
        ),
        ("'gpu'", "there is no provider 'gpu': did you mean 'cuda'?"),
    ],
)
def test_a_package_does_not_load_on_a_provider_that_is_not_there(
    providers: str, said: str, gpu_wheel: Environment, built: Path
) -> None:
    result = gpu_wheel.run("-c", LOAD, str(built), providers, cwd=built)
    (line,) = result.stdout.splitlines()
    assert line.startswith("refused: error[ENV]: ")
    assert said in line


def test_a_package_loads_there_on_the_cpu(gpu_wheel: Environment, built: Path) -> None:
    result = gpu_wheel.run("-c", LOAD, str(built), "None", cwd=built)
    assert result.stdout == "['CPUExecutionProvider']\n", result.stderr


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_the_options_of_a_provider_are_in_its_library(name: str, gpu_wheel: Environment) -> None:
    library = (gpu_wheel.libraries / f"libonnxruntime_providers_{name}.so").read_bytes()
    shared = library + (gpu_wheel.libraries / "libonnxruntime_providers_cuda.so").read_bytes()
    assert [option for option in PROVIDERS[name].options if option.encode() not in shared] == []
