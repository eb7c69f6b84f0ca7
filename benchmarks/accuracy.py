"""How near the sentence vectors of a package are to those of PyTorch in fp32, on 200 real sentences."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuild.runtime import load
from modelbuild.sentences import EVALUATION

Floats = npt.NDArray[np.float64]


def sentence_accuracy(folder: Path, package: Path, limit: int = 128) -> dict[str, float]:
    """The worst and the mean cosine between the vector that the model in `package` gives a sentence, alone, and the one
    that PyTorch gives it with the checkpoint and the tokenizer in `folder`; and how alike both rank all pairs of
    sentences by their likeness (Spearman's coefficient). Sentences are cut at `limit` tokens.
    """
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [dict(tokenizer(text, truncation=True, max_length=limit, return_tensors="np")) for text in EVALUATION]
    original = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = [
            original(**{name: torch.from_numpy(array) for name, array in text.items()}).last_hidden_state.numpy()
            for text in texts
        ]
    model = load(package)
    names = {tensor.name for graph in model.manifest.graphs.values() for tensor in graph.signature.inputs}
    ours = [
        model.run({name: array for name, array in text.items() if name in names})["last_hidden_state"] for text in texts
    ]
    return agreement(pooled(ours), pooled(theirs))


def pooled(states: Iterable[npt.NDArray[Any]]) -> Floats:
    """A vector of length 1 for each sentence: the mean over its tokens."""
    means = np.stack([np.asarray(state[0], dtype=np.float64).mean(axis=0) for state in states])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def agreement(ours: Floats, theirs: Floats) -> dict[str, float]:
    """The figures for two sets of vectors of length 1, a row each."""
    cosines = (ours * theirs).sum(axis=1)
    pairs = np.triu_indices(len(ours), k=1)
    mine, original = (_ranks((vectors @ vectors.T)[pairs]) for vectors in (ours, theirs))
    return {
        "sentences": len(ours),
        "worst_cosine": round(float(cosines.min()), 5),
        "mean_cosine": round(float(cosines.mean()), 5),
        "rank_agreement": round(float(np.corrcoef(mine, original)[0, 1]), 5),
    }


def _ranks(values: Floats) -> Floats:
    return np.argsort(np.argsort(values)).astype(np.float64)
