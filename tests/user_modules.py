"""Modules of a user's own, as files that a test writes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from modelbuild.component import Component
from modelbuild.config.schema import decode
from modelbuild.digest import sha256_file
from modelbuild.families.split import components_of
from modelbuild.model_spec import ModuleSource
from modelbuild.module_loading import UserModule
from modelbuild.reference import load_reference
from modelbuild.sources import Located, locate
from modelbuild.tasks import TASKS

FEATURES = {"features": {"dtype": "float32", "shape": ["batch", "sequence", 4]}}
# A file with a class `Net`, whose forward and whatever else are given.
HEAD = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width)
"""
FORWARD = """
    def forward(self, features):
        return self.linear(features)
"""


def write_module(folder: Path, *parts: str, name: str = "mine.py") -> Path:
    """A Python file of these parts, each without the indentation that it has in the test."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(dedent(part) for part in parts), encoding="utf-8")
    return path


def write_net(folder: Path, forward: str = FORWARD) -> Path:
    """A file with the class `Net`, with that forward, which is indented as a method is."""
    return write_module(folder, HEAD + forward)


def source_of(path: Path | None, **settings: Any) -> ModuleSource:
    """The source as a configuration says it, with an input `features` unless it says others."""
    values: dict[str, Any] = {"kind": "module", "factory": "Net", "inputs": FEATURES} | settings
    return ModuleSource.model_validate(values | ({"path": str(path)} if path else {}), strict=False)


def located(source: ModuleSource) -> Located:
    """The source with the content of its files."""
    return locate(source, sha256_file)


def loaded(source: ModuleSource) -> UserModule:
    """The module as a stage loads it."""
    found = located(source)
    model = found.subset(source, weights=True, sidecars=True)
    module = load_reference(model, TASKS["custom"], found.folder, found.weights)
    assert isinstance(module, UserModule)
    return module


def component_of(source: ModuleSource) -> Component:
    """The one graph that the module becomes."""
    (component,) = components_of(loaded(source), TASKS["custom"])
    return component


def spec_of(values: dict[str, Any], folder: Path, **groups: Any) -> Any:
    """The build of a configuration in which the model has this source, and these other groups."""
    rest = {
        "task": {"name": "auto"}, "opset": {"version": 20}, "exporter": {"kind": "dynamo"}, "sidecar": {"kind": "auto"},
        "optimization": {"kind": "none"}, "precision": {"kind": "fp32"}, "providers": {"order": ["cpu"]},
        "session": {}, "validation": {"kind": "quick"}, "benchmark": {"kind": "off"},
    }  # fmt: skip
    return decode({"model": {"name": "mine", "source": {"kind": "module"} | values}} | rest | groups, folder)
