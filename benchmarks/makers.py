"""Who makes an ONNX model of a checkpoint, and by which commands: Optimum, Olive, and modelbuild."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from random_models import Checkpoint

from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.own_process import environment as own_environment
from modelbuild.pipeline.build_folder import write_params
from modelbuild.pipeline.project import stage_params
from modelbuild.resolve import ResolvedBuild, resolve

HERE = Path(__file__).resolve().parent
_OFFLINE = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1"}
# Loads the encoder alone, which Olive's own loader of Hugging Face folders cannot.
_ENCODER_SCRIPT = """\
from transformers import T5EncoderModel


def load(path):
    return T5EncoderModel.from_pretrained(path)
"""


def peer(name: str, work: Path) -> Path:
    """The folder of the programs of peer `name`: a virtual environment below `work` with the versions of `<name>.txt`,
    made when it is not there or has others. Raises SystemExit when pip fails.
    """
    wanted = HERE / f"{name}.txt"
    folder = work / "environments" / name
    mark = folder / "installed"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text(encoding="ascii") != digest:
        print(f"making the environment of {name} in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run_quietly([sys.executable, "-m", "venv", str(folder)])
        _run_quietly([str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", "-r", str(wanted)])
        mark.write_text(digest, encoding="ascii")
    return folder / "bin"


def _run_quietly(command: Sequence[str]) -> None:
    done = subprocess.run(command, env=peer_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise SystemExit(f"{' '.join(command)}: ended with status {done.returncode}: {said}")


def peer_environment() -> dict[str, str]:
    """The variables of this process, without a Python path, which would lead a peer to our libraries."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | _OFFLINE


def our_environment() -> dict[str, str]:
    """The variables for a process of modelbuild, which finds the modules that this one has."""
    return own_environment() | _OFFLINE


def optimum_command(programs: Path, checkpoint: Checkpoint, source: Path, out: Path, level: str | None) -> list[str]:
    """Optimum's export of the checkpoint in `source`, optimized to `level` if there is one."""
    task = ["--task", checkpoint.task, "--library", "transformers"]
    optimize = ["--optimize", level] if level else []
    return [str(programs / "optimum-cli"), "export", "onnx", "--model", str(source), *task, *optimize, str(out)]


def olive_command(programs: Path, config: Path) -> list[str]:
    """Olive's run of the workflow in `config`."""
    return [str(programs / "olive"), "run", "--config", str(config), "--disable_telemetry"]


def write_olive_config(checkpoint: Checkpoint, source: Path, folder: Path) -> Path:
    """Write into `folder` Olive's workflow of conversion and ONNX Runtime's transformer optimizations, both as Olive
    has them by default. Its cache and its output are in `folder` too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fusions: dict[str, Any] = {"type": "OrtTransformersOptimization"}
    if checkpoint.graph == "encoder_model":
        # Without a loader of Olive's own, the type of the model is for us to say.
        fusions |= {"model_type": checkpoint.model_type}
    config = {
        "input_model": _olive_model(checkpoint, source, folder),
        "systems": {
            "cpu": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "passes": {"conversion": {"type": "OnnxConversion"}, "fusions": fusions},
        "host": "cpu",
        "target": "cpu",
        "cache_dir": str(folder / "cache"),
        "output_dir": str(folder / "out"),
    }
    path = folder / "workflow.json"
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return path


def _olive_model(checkpoint: Checkpoint, source: Path, folder: Path) -> dict[str, Any]:
    if checkpoint.graph != "encoder_model":
        # Olive has one task for features, of texts and of images.
        task = checkpoint.task.removeprefix("image-")
        return {"type": "HfModel", "model_path": str(source), "task": task} | _olive_interface(checkpoint)
    script = folder / "encoder.py"
    script.write_text(_ENCODER_SCRIPT, encoding="utf-8")
    return {
        "type": "PyTorchModel",
        "model_path": str(source),
        "model_loader": "load",
        "model_script": str(script),
    } | _olive_interface(checkpoint)


def _olive_interface(checkpoint: Checkpoint) -> dict[str, Any]:
    """The interface, where Olive knows none: it knows that of text models."""
    axes: dict[str, dict[str, str]]
    if checkpoint.graph == "encoder_model":
        names, shapes, types = ["input_ids", "attention_mask"], [[2, 16], [2, 16]], ["int64", "int64"]
        axes = {name: {"0": "batch", "1": "sequence"} for name in (*names, "last_hidden_state")}
    elif checkpoint.task.startswith("image-"):
        names, shapes, types = ["pixel_values"], [[2, 3, 224, 224]], ["float32"]
        axes = {name: {"0": "batch"} for name in (*names, "last_hidden_state")}
    else:
        return {}
    config = {
        "input_names": names,
        "input_shapes": shapes,
        "input_types": types,
        "output_names": ["last_hidden_state"],
        "dynamic_axes": axes,
    }
    return {"io_config": config}


def our_overrides(checkpoint: Checkpoint, source: Path, *more: str) -> list[str]:
    """The overrides of a build of the checkpoint in `source`: graphs alone, no sidecar files and no benchmark."""
    model = ["model=path", f"model.name={checkpoint.name}", f"model.source.path={source}"]
    return [*model, f"task={checkpoint.task}", "sidecar=off", "benchmark=off", *more]


def our_command(*arguments: str) -> list[str]:
    """`python -m modelbuild` with `arguments`, to be run with `our_environment`."""
    return [sys.executable, "-P", "-m", "modelbuild", *arguments]


def resolved(overrides: Sequence[str], folder: Path) -> ResolvedBuild:
    """What the build of these overrides means, in the workspace `folder`."""
    return resolve(compose(list(overrides), folder).spec, sha256_file)


def make_build_folder(overrides: Sequence[str], folder: Path) -> None:
    """Make `folder` that of a build, in which its stages can be run one by one as DVC runs them."""
    folder.mkdir(parents=True, exist_ok=True)
    build = resolved(overrides, folder)
    write_params(folder, stage_params(build), build.locations())
