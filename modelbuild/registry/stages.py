"""Which version of a model is in which stage, such as production."""

from __future__ import annotations

from pathlib import Path

from modelbuild.errors import PackageError
from modelbuild.registry.disk import folder_at, now, read_json, replace_json, sync
from modelbuild.registry.entries import Entry
from modelbuild.suggest import did_you_mean


class Stages:
    """The folder `stages` of a registry: a file for each, and the last to write it wins."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, name: str) -> dict[str, str]:
        """The version that is in each stage of a model."""
        folder = self._root / "stages" / name
        if not folder.is_dir():
            return {}
        return {path.stem: self.version(name, path.stem) for path in sorted(folder.glob("[!.]*.json"))}

    def version(self, name: str, stage: str) -> str:
        """The version that is in a stage. Raises PackageError where there is none."""
        path = self._path(name, stage)
        if not path.exists():
            known = [other.stem for other in path.parent.glob("[!.]*.json")]
            hint = did_you_mean(stage, known) or f"modelbuild registry assign {name}@VERSION {stage}"
            raise PackageError(f"no version of {name} is in {stage}", where=str(self._root), hint=hint)
        hint = f"modelbuild registry assign {name}@VERSION {stage} writes it anew"
        try:
            found = read_json(path).get("version")
        except PackageError as error:
            raise PackageError(error.problems[0].what, where=str(path), hint=hint) from error
        if not isinstance(found, str):
            raise PackageError("it is damaged: it names no version", where=str(path), hint=hint)
        return found

    def assign(self, entry: Entry, stage: str) -> None:
        """Put a version there, in the place of the one that is."""
        folder_at(self._root, "stages", entry.name)
        pointer = {"version": entry.version, "digest": entry.digest, "since": now()}
        replace_json(self._path(entry.name, stage), pointer)

    def clear(self, name: str, stage: str) -> str:
        """Leave a stage empty; return the version that was there, or nothing where that cannot be read. Raises
        PackageError where none was.
        """
        path = self._path(name, stage)
        try:
            version = self.version(name, stage)
        except PackageError:
            if not path.exists():
                raise
            version = ""
        path.unlink()
        sync(path.parent)
        return version

    def _path(self, name: str, stage: str) -> Path:
        return self._root / "stages" / name / f"{stage}.json"
