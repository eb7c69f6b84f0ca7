"""Optimum's own validation of an export, on the same files, with the verdicts of `optimum-cli export onnx`."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from optimum.exporters.error_utils import AtolError, OutputMatchError
from optimum.exporters.onnx.convert import validate_model_outputs
from optimum.exporters.tasks import TasksManager

from modelbuild.graph import MODEL_FILE
from modelbuild.tasks import TaskName

# What the exporters of this project call `batch` and `sequence`; Optimum refuses names that are not its own.
_AXIS_NAMES = {"batch": "batch_size", "sequence": "sequence_length"}


def verdict(folder: Path, reference: torch.nn.Module, task: TaskName) -> str:
    """`caught: ERROR` where the export would fail, `warned: ERROR` where `optimum-cli` prints a warning and ends
    with 0, `missed` where it says nothing. Run once, with Optimum's own inputs and tolerance, from seed 0.
    """
    constructor = TasksManager.get_exporter_config_constructor(
        model=reference, exporter="onnx", task=task, library_name="transformers"
    )
    config = constructor(reference.config, int_dtype="int64", float_dtype="fp32")
    logging.getLogger("optimum").setLevel(logging.CRITICAL)
    random.seed(0)
    np.random.seed(0)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            validate_model_outputs(
                config=config,
                reference_model=reference,
                onnx_model=_for_optimum(folder, list(config.inputs)),
                onnx_named_outputs=list(config.outputs),
                use_subprocess=False,
            )
    except (AtolError, OutputMatchError) as error:
        return f"warned: {type(error).__name__}"
    except Exception as error:
        return f"caught: {type(error).__name__}"
    return "missed"


def _for_optimum(folder: Path, inputs: list[str]) -> Path:
    """A copy of the model beside its weights, with axes named as Optimum names them; and inputs that Optimum does not
    feed are zeros, as transformers takes them to be. A file that cannot be parsed is given as it is.
    """
    try:
        model = onnx.load(folder / MODEL_FILE, load_external_data=False)
    except DecodeError:
        return folder / MODEL_FILE
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in _AXIS_NAMES:
                axis.dim_param = _AXIS_NAMES[axis.dim_param]
    for value in [value for value in model.graph.input if value.name not in inputs]:
        model.graph.input.remove(value)
        model.graph.node.insert(0, onnx.helper.make_node("Sub", ["input_ids", "input_ids"], [value.name]))
    target = folder / f"optimum-{MODEL_FILE}"
    target.write_bytes(model.SerializeToString())
    return target
