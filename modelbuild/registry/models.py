"""The models of a registry, and an entry for each of their versions."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from modelbuild.errors import PackageError
from modelbuild.registry.disk import damaged, folder_at, link_json, read_json, sync
from modelbuild.registry.entries import Entry
from modelbuild.registry.references import is_name
from modelbuild.registry.versions import Version

_ENTRY, _GONE = ".json", ".gone"


class Models:
    """The folder `models` of a registry. Files and folders that are none of ours are left alone."""

    def __init__(self, root: Path) -> None:
        self._root = root / "models"

    def names(self) -> list[str]:
        """The models that have a version, sorted."""
        names = sorted(path.name for path in self._root.iterdir() if path.is_dir()) if self._root.is_dir() else []
        return [name for name in names if is_name(name) and self.versions(name)]

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, the oldest first."""
        return self._with(name, _ENTRY)

    def removed(self, name: str) -> list[Version]:
        """The versions of a model that were removed."""
        return self._with(name, _GONE)

    def _with(self, name: str, suffix: str) -> list[Version]:
        folder = self._root / name
        found = []
        for path in folder.glob(f"[!.]*{suffix}") if folder.is_dir() else ():
            with suppress(PackageError):
                found.append(Version.parse(path.name.removesuffix(suffix)))
        return sorted(found)

    def read(self, name: str, version: Version) -> Entry:
        """The entry of a version. Raises PackageError where it is damaged, and HostError where it cannot be read."""
        path = self._root / name / f"{version}{_ENTRY}"
        try:
            return Entry.from_dict(read_json(path))
        except (KeyError, TypeError) as error:
            raise damaged(path, error) from error

    def link(self, entry: Entry) -> bool:
        """Write an entry where none is; False where one is, or was."""
        folder = folder_at(self._root, entry.name)
        gone = (folder / f"{entry.version}{_GONE}").exists()
        return not gone and link_json(folder / f"{entry.version}{_ENTRY}", entry.to_dict())

    def remove(self, name: str, version: Version) -> None:
        """Take an entry out, readable or not; its number stays taken."""
        folder = self._root / name
        (folder / f"{version}{_ENTRY}").rename(folder / f"{version}{_GONE}")
        sync(folder)
