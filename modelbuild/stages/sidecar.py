"""sidecar: config.json, tokenizer and the other files that belong beside the graph."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild.architectures import architecture_for, reference_config
from modelbuild.config_fields import dimensions, token_ids, without_machine
from modelbuild.decoding import DECODERS
from modelbuild.digest import write_json
from modelbuild.errors import ExportError
from modelbuild.families import CONFIGS
from modelbuild.families.split import components_of
from modelbuild.generation import made_generation_config
from modelbuild.golden_image import golden_image, write_golden_image
from modelbuild.golden_text import golden_text, write_golden_text
from modelbuild.model_files import (
    CONFIG_FILE,
    GENERATION_CONFIG,
    PREPROCESSOR_CONFIG,
    TOKENIZER_CONFIG,
    VOCABULARY_FILES,
    is_config,
    is_weight,
)
from modelbuild.model_spec import InitSource
from modelbuild.module_config import config_of
from modelbuild.module_loading import UserModule
from modelbuild.reference import load_reference, parse_config, verify_source
from modelbuild.report import Report
from modelbuild.sizes import UNLIMITED
from modelbuild.stage_spec import FolderFiles, ModuleFiles, SidecarSpec
from modelbuild.tasks import TASKS, Task
from modelbuild.text_limits import limits_of


def run(spec: SidecarSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Copy the files beside the weights, from the same folder, set in `config.json` what it lacks and the task needs,
    and write down what the tokenizer makes of some texts and the image processor of some images; of a user's own
    module, a config alone. What was set is in the report.

    Raises ExportError when the config, the tokenizer or the image processor cannot be read, or labels contradict each
    other.
    """
    source, task, folder = spec.model.source, TASKS[spec.task], inputs.get("source")
    if isinstance(source, ModuleFiles):
        return _of_module(spec, inputs, out)
    if isinstance(source, FolderFiles):
        folder = inputs["source"]
        verify_source(source, folder)
        _copy(source, folder, out)
    if task.family in CONFIGS:
        changed = importlib.import_module(CONFIGS[task.family]).write_configs(source, folder, out)
        text_config = out / "text_encoder" / CONFIG_FILE
    else:
        changed = _write_config(source, folder, task, out)
        text_config = out / CONFIG_FILE
    if "image_processor" in task.preprocessors and (out / PREPROCESSOR_CONFIG).is_file():
        write_golden_image(golden_image(out), out)
    tokenizer = out / task.tokenizer_folder
    has_tokenizer = any((tokenizer / name).is_file() for name in VOCABULARY_FILES)
    if has_tokenizer:
        positions = _positions(json.loads(text_config.read_text(encoding="utf-8")))
        write_golden_text(golden_text(tokenizer, max_length=positions or UNLIMITED), tokenizer)
        changed |= _fix_max_length(positions, tokenizer) if positions else {}
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return Report(stage="sidecar", facts={"status": "auto", "files": files, "tokenizer": has_tokenizer, "set": changed})


def _write_config(source: FolderFiles | InitSource, folder: Path | None, task: Task, out: Path) -> dict[str, Any]:
    """Write `config.json`, and give what was set in it."""
    if isinstance(source, InitSource) or folder is None:
        assert isinstance(source, InitSource)
        given = reference_config(source)
    else:
        given = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    config = _completed(given, task)
    write_json(out / CONFIG_FILE, config)
    changed = _changes(given, config)
    return changed | (_generation(config, out) if task.family in DECODERS else {})


def _of_module(spec: SidecarSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """The config of a user's own module; it has no other files."""
    task = TASKS[spec.task]
    module = load_reference(spec.model, task, inputs.get("source"), inputs.get("weights"))
    assert isinstance(module, UserModule)
    (component,) = components_of(module, task)
    made = config_of(module.model, module.files.declared.config, component.interface)
    config = made.values | (_labels(made.values) if {"id2label", "label2id"} & made.values.keys() else {})
    changed = _changes(module.files.declared.config, config)
    write_json(out / CONFIG_FILE, dict(sorted(config.items())))
    return Report(
        stage="sidecar",
        facts={
            "status": "auto", "files": [CONFIG_FILE], "tokenizer": False, "set": changed, "inferred": made.inferred,
        },
    )  # fmt: skip


def _copy(source: FolderFiles, folder: Path, out: Path) -> None:
    for name in source.files:
        if not is_config(name) and not is_weight(name):
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)


def _completed(given: dict[str, Any], task: Task) -> dict[str, Any]:
    """The config as it ships.

    It has no local paths, the architecture that was exported, labels that were checked, and the fields that everyone
    goes by even where they are the defaults of the family.
    """
    config: dict[str, Any] = without_machine(given)
    if not isinstance(config.get("model_type"), str):
        raise ExportError("model_type must be a text", where=CONFIG_FILE, hint="such as bert")
    config["architectures"] = [architecture_for(config, task)]
    if task.labels:
        config |= _labels(config)
    if task.family in DECODERS:
        config["use_cache"] = True
    parsed = parse_config(config)
    for field in (*dimensions(parsed), *token_ids(parsed)):
        if not field.found(config):
            config[field.own] = field.value
    return dict(sorted(config.items()))


def _generation(config: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Make `generation_config.json` where the original has none, as transformers does, and have it use the cache that
    the graphs have. Gives what was set.
    """
    path = out / GENERATION_CONFIG
    given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    settings = made_generation_config(parse_config(config)) if given is None else dict(given)
    if settings.get("use_cache") is False:
        settings["use_cache"] = True
    if settings == given:
        return {}
    write_json(path, settings)
    return {f"{GENERATION_CONFIG} {key}": value for key, value in _changes(given or {}, settings).items()}


def _positions(config: Mapping[str, Any]) -> int | None:
    """The number of tokens that the model can take, None where any number will do."""
    try:
        return limits_of(parse_config(config)).max_positions
    except (AttributeError, TypeError, ValueError) as error:
        raise ExportError(f"the sizes of the model cannot be told: {error}", where=CONFIG_FILE) from error


def _changes(given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in given or given[key] != value}


def _labels(config: Mapping[str, Any]) -> dict[str, Any]:
    """`id2label`, `label2id` and `num_labels` that say the same. Raises ExportError when those given do not."""
    labels, count, inverse = config.get("id2label"), config.get("num_labels"), config.get("label2id")
    if labels is None:
        count = 2 if count is None else count
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise _refused(f"num_labels must be a number of labels, and is {json.dumps(count)}")
        labels = {str(index): f"LABEL_{index}" for index in range(count)}  # transformers' own names
    if not isinstance(labels, dict) or not all(isinstance(label, str | int | float) for label in labels.values()):
        raise _refused(f"id2label must map 0, 1, … to labels, and is {json.dumps(labels)[:80]}")
    wanted = [str(index) for index in range(len(labels))]
    if set(labels) != set(wanted):
        raise _refused(f"id2label must have the keys 0 to {len(labels) - 1}, and has {', '.join(labels)}")
    if count is not None and count != len(labels):
        raise _refused(f"num_labels is {json.dumps(count)}, and id2label has {len(labels)} labels")
    found = {str(labels[index]): int(index) for index in wanted}
    if len(found) < len(labels):
        raise _refused("id2label has the same label twice")
    if inverse and (not isinstance(inverse, dict) or {k: str(v) for k, v in inverse.items()} != _texts(found)):
        raise _refused("label2id is not the inverse of id2label")
    return {
        "id2label": {index: str(labels[index]) for index in wanted}, "label2id": found, "num_labels": len(labels),
    }  # fmt: skip


def _texts(found: Mapping[str, int]) -> dict[str, str]:
    return {label: str(index) for label, index in found.items()}


def _refused(what: str) -> ExportError:
    return ExportError(what, where=CONFIG_FILE, hint="correct config.json")


def _fix_max_length(positions: int, out: Path) -> dict[str, Any]:
    """Where a tokenizer has no maximum length, transformers' sentinel for none (1e30), or one beyond what the model
    takes, set what it takes. Gives what was set.
    """
    path = out / TOKENIZER_CONFIG
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    given = settings.get("model_max_length")
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given <= positions:
        return {}
    write_json(path, settings | {"model_max_length": positions})
    return {f"{TOKENIZER_CONFIG} model_max_length": positions}
