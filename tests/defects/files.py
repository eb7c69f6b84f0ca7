"""Defects in the files of the graph: another model's weights, missing bytes, flipped bits, a label that lies."""

from __future__ import annotations

import shutil
from dataclasses import replace

from defects.defect import Defect
from defects.graphs import edited
from defects.models import Build, make
from defects.weights import HIDDEN, OFF
from tiny_models import WEIGHTS_FILE

from modelbuild.graph import MODEL_FILE


def _weights_of_another(build: Build) -> None:
    """The weights file of a model from another seed, beside this one's graph: of equal size, so that it opens."""
    made = make(replace(build.model, seed=1), build.folders["optimize"].parent / "another")
    mine, other = (folder / WEIGHTS_FILE for folder in (build.folders["optimize"], made.folders["optimize"]))
    assert mine.stat().st_size == other.stat().st_size
    shutil.copyfile(other, mine)


def _truncated(build: Build) -> None:
    path = build.folders["optimize"] / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[: -(path.stat().st_size // 3)])


def _flipped_bit(build: Build) -> None:
    """The highest bit of the mantissa of one weight."""
    path = build.folders["optimize"] / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[4 * 5000 + 2] ^= 0x40
    path.write_bytes(bytes(content))


def _no_weights(build: Build) -> None:
    (build.folders["optimize"] / WEIGHTS_FILE).unlink()


def _another_opset(build: Build) -> None:
    with edited(build.folders["optimize"]) as graph:
        next(entry for entry in graph.model.opset_import if not entry.domain).version = 19


def _not_onnx(build: Build) -> None:
    (build.folders["optimize"] / MODEL_FILE).write_bytes(b"<!DOCTYPE html><title>404</title>")


def _empty(build: Build) -> None:
    (build.folders["optimize"] / MODEL_FILE).write_bytes(b"")


DEFECTS = (
    Defect(
        name="the weights file is another model's",
        group="files",
        model="bert-optimum",
        plant=_weights_of_another,
        check=HIDDEN,
        message=OFF,
    ),
    Defect(
        name="the weights file is truncated",
        group="files",
        model="bert",
        plant=_truncated,
        check="PackageError",
        message=r"its weights cannot be read: buffer is smaller than requested size",
    ),
    Defect(
        name="one bit of the weights file is flipped",
        group="files",
        model="bert",
        plant=_flipped_bit,
        check="weights",
        message=r"weights: 1 \(limit 0\) at .*word_embeddings\.weight\[156, 8\]",
        also=(HIDDEN,),
        place=r"first departs in embeddings\.word_embeddings",
    ),
    Defect(
        name="the weights file is missing",
        group="files",
        model="distilbert-classifier",
        plant=_no_weights,
        check="PackageError",
        message=r"its weights cannot be read: .*model\.onnx\.data",
    ),
    Defect(
        name="the file says another opset",
        group="files",
        model="roberta",
        plant=_another_opset,
        check="opset",
        message=r"graph: 19, asked: 18$",
    ),
    Defect(
        name="the model is a web page",
        group="files",
        model="bert",
        plant=_not_onnx,
        check="PackageError",
        message=r"not an ONNX file",
    ),
    Defect(
        name="the model is an empty file",
        group="files",
        model="bert",
        plant=_empty,
        check="PackageError",
        message=r"not an ONNX file: it names no opset",
    ),
)
