"""sidecar: config.json, tokenizer and the other files that belong beside the graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from modelbuild.digest import write_json
from modelbuild.errors import ExportError
from modelbuild.model_files import CONFIG_FILE, TOKENIZER_FILES, is_weight
from modelbuild.reference import architecture_for, reference_config, verify_source
from modelbuild.report import Report
from modelbuild.samples import limits_of
from modelbuild.stage_spec import FolderFiles, SidecarSpec
from modelbuild.tasks import TASKS, Task

SPEC = SidecarSpec
REPORT: str | None = "report.json"

_TOKENIZERS = frozenset(
    {"tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"}
)
# Longer than this, a tokenizer's model_max_length is transformers' "none was given" (1e30).
_SENTINEL = 10**9


def run(spec: SidecarSpec, inputs: Mapping[str, Path], out: Path) -> Report:
    """Copy the files beside the weights, from the same folder, and set what the task needs in `config.json`.

    Raises ExportError when the tokenizer is missing, labels are missing or contradict each other.
    """
    if spec.sidecar.kind == "off":
        return Report(stage="sidecar", facts={"status": "off", "files": []})
    task = TASKS[spec.task]
    source = spec.model.source
    if isinstance(source, FolderFiles):
        folder = inputs["source"]
        verify_source(source, folder)
        _copy(source, folder, out)
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    else:
        config = reference_config(source)
    config = _normalized(config, task)
    write_json(out / CONFIG_FILE, config)
    _fix_max_length(config, out)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return Report(
        stage="sidecar",
        facts={"status": "auto", "files": files, "tokenizer": bool(_TOKENIZERS & set(files))},
    )


def _copy(source: FolderFiles, folder: Path, out: Path) -> None:
    names = [name for name in source.files if name != CONFIG_FILE and not is_weight(name)]
    if not _TOKENIZERS & set(names):
        raise ExportError(
            "no tokenizer files",
            where=str(folder),
            hint=f"expected one of {', '.join(TOKENIZER_FILES[:1])}, vocab.txt; or sidecar=off",
        )
    for name in names:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target)


def _normalized(config: dict[str, Any], task: Task) -> dict[str, Any]:
    """The config as it ships: no local paths, the architecture that was exported, labels checked."""
    config = {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}
    config["architectures"] = [architecture_for(config, task)]
    if task.labels:
        _check_labels(config)
    return dict(sorted(config.items()))


def _check_labels(config: dict[str, Any]) -> None:
    labels = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))}
    wanted = [str(index) for index in range(len(labels))]
    if set(map(str, labels)) != set(wanted):
        raise ExportError(
            f"id2label must have the keys 0 to {len(labels) - 1}, and has {', '.join(map(str, labels))}",
            where=CONFIG_FILE,
        )
    inverse = {str(label): int(index) for index, label in labels.items()}
    given = config.get("label2id")
    if given and {label: str(index) for label, index in given.items()} != {k: str(v) for k, v in inverse.items()}:
        raise ExportError("label2id is not the inverse of id2label", where=CONFIG_FILE, hint="correct config.json")
    config["id2label"], config["label2id"] = {index: str(labels[index]) for index in wanted}, inverse


def _fix_max_length(config: dict[str, Any], out: Path) -> None:
    """Where a tokenizer has no maximum length, or transformers' sentinel for none, set what the model takes."""
    path = out / "tokenizer_config.json"
    if not path.is_file() or "vocab_size" not in config:
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    if (settings.get("model_max_length") or _SENTINEL) >= _SENTINEL:
        write_json(path, settings | {"model_max_length": limits_of(SimpleNamespace(**config)).max_positions})
