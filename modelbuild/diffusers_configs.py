"""The configs of a pipeline as they ship: `model_index.json`, and one beside each graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild.config_fields import without_machine
from modelbuild.diffusers_folder import LEFT_OUT, MODELS
from modelbuild.diffusers_reference import completed, configs, load_initialized
from modelbuild.digest import write_json
from modelbuild.model_files import CONFIG_FILE, MODEL_INDEX, SCHEDULER_CONFIG
from modelbuild.model_spec import InitSource
from modelbuild.stage_spec import FolderFiles

# The graphs that a part becomes.
GRAPHS = {"text_encoder": ("text_encoder",), "unet": ("unet",), "vae": ("vae_encoder", "vae_decoder")}


def write_configs(source: FolderFiles | InitSource, folder: Path | None, out: Path) -> dict[str, Any]:
    """Write the configs into `out` and give what was set in them, by file and key.

    Every config has all its keys, even where they are the defaults of the class: Optimum takes other defaults for some,
    such as the scaling factor of the latents. What judges or prepares images is not in the package, and the index says
    so.
    """
    if isinstance(source, InitSource) or folder is None:
        assert isinstance(source, InitSource)
        pipeline = load_initialized(source)
        given, index, scheduler = configs(pipeline), pipeline.index, pipeline.scheduler
    else:
        given = {name: _read(folder / name / CONFIG_FILE) for name in MODELS}
        index, scheduler = _read(folder / MODEL_INDEX), _read(folder / "scheduler" / SCHEDULER_CONFIG)
    files: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {
        MODEL_INDEX: (index, shipped_index(index)),
        f"scheduler/{SCHEDULER_CONFIG}": (scheduler, without_machine(scheduler)),
    }
    for part, graphs in GRAPHS.items():
        whole = without_machine(completed(part, given[part]))
        files |= {f"{graph}/{CONFIG_FILE}": (given[part], whole) for graph in graphs}
    changed: dict[str, Any] = {}
    for name, (before, after) in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, after)
        changed |= {f"{name} {key}": value for key, value in after.items() if key not in before or before[key] != value}
    return changed


def shipped_index(index: Mapping[str, Any]) -> dict[str, Any]:
    """`model_index.json` without what the package goes without."""
    without = {name: [None, None] for name in LEFT_OUT if name in index}
    safety = {"requires_safety_checker": False} if "safety_checker" in index else {}
    return dict(sorted((without_machine(index) | without | safety).items()))


def _read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read
