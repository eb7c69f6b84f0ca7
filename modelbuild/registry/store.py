"""The folder of a registry, which many may write to at once and which a crash leaves whole.

    registry.json                 that it is one, and its format
    objects/<digest>/…            packages by the sha256 of their manifest; they never change
    models/<name>/<version>.json  an entry for each version; it never changes
    models/<name>/<version>.gone  a version that was removed: its number is not given again
    stages/<name>/<stage>.json    which version is in a stage; the last to say so wins
    measured/<name>/<version>/    what it was measured to take, a file for each machine

A package is copied beside the others, compared with its manifest there, and moved into its place; then its entry is
linked there, which one process alone can do. Whoever reads sees all of a version, or nothing of it. What belongs to
none of this is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modelbuild.digest import sha256_json
from modelbuild.errors import HostError, PackageError, ValidationError, listed
from modelbuild.locks import hold
from modelbuild.manifest import Manifest, read_manifest
from modelbuild.registry.disk import folder_at, now, read_json, replace_json
from modelbuild.registry.entries import Entry, describe
from modelbuild.registry.models import Models
from modelbuild.registry.objects import Objects
from modelbuild.registry.references import Reference, checked_name, checked_stage, parse_reference
from modelbuild.registry.root import claim, require_begun, require_registry
from modelbuild.registry.stages import Stages
from modelbuild.registry.versions import Version, choose, following
from modelbuild.suggest import did_you_mean

ENVIRONMENT = "MODELBUILD_REGISTRY"
_TRIES = 1000


class Registry:
    """The registry in a folder, which need not exist before something is added.

    Publishers may be many, on one machine or on file systems that lock (NFS from version 4 on).
    """

    def __init__(self, root: str | Path | None = None) -> None:
        """`root` is that of the environment variable MODELBUILD_REGISTRY, if it is not given. Raises HostError where
        neither is, or what is there is no registry.
        """
        found = root or os.environ.get(ENVIRONMENT)
        if not found:
            raise HostError("no registry is known", hint=f"set {ENVIRONMENT} to its folder, or give it")
        self.root = Path(found).expanduser()
        require_registry(self.root)
        self._models, self._objects, self._stages = Models(self.root), Objects(self.root), Stages(self.root)

    def add(self, package: str | Path, name: str, version: str | None = None, *, stage: str = "") -> Entry:
        """Publish the package in a folder as `version` of `name`, in `stage` if there is one, and return its entry.

        Without a version it is the next minor one, or the next major one where it takes or gives something else than
        the newest release. The same content again as that version, or as the newest where none is asked for, changes
        nothing.

        Raises PackageError where the folder is no package or not what was built, or where the version is there with
        another content; ValidationError where it was not proven; HostError where nothing can be written.
        """
        checked_name(name)
        if stage:
            checked_stage(stage)
        asked = Version.parse(version) if version is not None else None
        if asked and asked.build:
            raise PackageError(
                f"'{version}' has a build, which makes no other version", hint=f"leave out +{asked.build}"
            )
        folder = Path(package)
        manifest = read_manifest(folder)
        if not manifest.verified:
            raise ValidationError(
                "the package was not proven", where=str(folder), hint="build it with validation=quick or strict"
            )
        claim(self.root)
        with self._writing("nothing was published"):
            digest = self._objects.keep(folder, manifest)
            entry = self._enter(manifest, name, asked, digest)
        if stage:
            with self._writing(f"{name} {entry.version} was published, and is not in {stage}"):
                self._stages.assign(entry, stage)
        return entry

    def _enter(self, manifest: Manifest, name: str, asked: Version | None, digest: str) -> Entry:
        """Link the entry; one that asks for no version takes the next until one is its own, unless the newest is it."""
        for _ in range(_TRIES):
            newest = self._newest(name)
            if asked is None and newest is not None and newest.digest == digest:
                return newest
            version = asked or self._next(name, manifest)
            entry = describe(manifest, name=name, version=str(version), digest=digest, published=now())
            if self._models.link(entry):
                return entry
            known = self._models.read(name, version) if version in self.versions(name) else None
            if asked and known is not None and known.digest == digest:
                return known
            if asked:
                state = "was removed" if known is None else "is there with another content"
                raise PackageError(
                    f"{name} {version} {state}, and versions never change",
                    where=str(self.root),
                    hint="choose another version",
                )
        raise HostError(f"no version of {name} was free in {_TRIES} tries", where=str(self.root))

    def _newest(self, name: str) -> Entry | None:
        """The entry of the newest version; None where there is none, or none that can be read."""
        newest = max(self.versions(name), default=None)
        with suppress(PackageError, HostError):
            return self._models.read(name, newest) if newest else None
        return None

    def _next(self, name: str, manifest: Manifest) -> Version:
        """The next minor version, if it does not break what the newest release of the same major one promises."""
        given = [*self.versions(name), *self._models.removed(name)]
        major = max(given).major if given else 1
        releases = [version for version in self.versions(name) if version.major == major and not version.before]
        promised = self._interface(name, max(releases)) if releases else manifest.takes_and_gives()
        return following(given, major=promised != manifest.takes_and_gives())

    def _interface(self, name: str, version: Version) -> Mapping[str, object] | None:
        """What the package of a version takes and gives; None where that cannot be read, which is like nothing else."""
        with suppress(PackageError, HostError):
            folder = self._objects.folder(self._models.read(name, version).digest)
            return read_manifest(folder).takes_and_gives() if folder else None
        return None

    def names(self) -> list[str]:
        """The models that have a version, sorted."""
        return self._models.names()

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, the oldest first."""
        return self._models.versions(checked_name(name))

    def stages(self, name: str) -> dict[str, str]:
        """The version that is in each stage of a model."""
        return self._stages.of(checked_name(name))

    def entry(self, reference: str | Reference) -> Entry:
        """The entry of `minilm`, `minilm@^1` or `minilm#production`. Raises PackageError where there is none."""
        wanted = parse_reference(reference) if isinstance(reference, str) else reference
        return self._models.read(wanted.name, self._version(wanted))

    def _version(self, wanted: Reference) -> Version:
        versions = self.versions(wanted.name)
        if not versions:
            require_begun(self.root)
            hint = did_you_mean(wanted.name, self.names()) or "modelbuild registry list shows what there is"
            raise PackageError(f"there is no model '{wanted.name}'", where=str(self.root), hint=hint)
        range_ = self._stages.version(wanted.name, wanted.stage) if wanted.stage else wanted.versions
        version = choose(versions, range_)
        if version is None:
            has = listed([*map(str, reversed(versions))], 8)
            what = f"version {range_}" if range_ else "release"
            raise PackageError(f"{wanted.name} has no {what}", where=str(self.root), hint=f"it has {has}")
        return version

    def resolve(self, reference: str | Reference) -> Path:
        """The folder of the package that a reference means. Its files are the registry's: read them only."""
        entry = self.entry(reference)
        folder = self._objects.folder(entry.digest)
        if folder is None:
            raise PackageError(
                f"the package of {entry.name} {entry.version} is damaged or gone",
                where=str(self.root),
                hint="publish it again from where it was built",
            )
        return folder

    def assign(self, name: str, version: str, stage: str) -> Entry:
        """Put a version of a model into a stage, in the place of the one that is there; return its entry."""
        checked_stage(stage)
        with self._writing("nothing was changed"):
            entry = self.entry(Reference(checked_name(name), versions=str(Version.parse(version))))
            self._stages.assign(entry, stage)
        return entry

    def unassign(self, name: str, stage: str) -> str:
        """Leave a stage of a model empty; return the version that was in it. Raises PackageError where none was."""
        with self._writing("nothing was changed"):
            return self._stages.clear(checked_name(name), checked_stage(stage))

    def measured(self, reference: str | Reference, facts: Mapping[str, Any]) -> None:
        """Keep what a version was measured to take on a machine, which `facts["host"]` describes, in the place of what
        was measured there before. Raises PackageError where there is no such version.
        """
        with self._writing("nothing was kept"):
            entry = self.entry(reference)
            folder = folder_at(self.root, "measured", entry.name, entry.version)
            replace_json(folder / f"{sha256_json(facts['host'])[:16]}.json", {"since": now(), **facts})

    def performance(self, entry: Entry) -> list[Mapping[str, Any]]:
        """What a version was measured to take: where it was built, and then on every machine that was `measured`."""
        folder = self.root / "measured" / entry.name / entry.version
        found = sorted(folder.glob("[!.]*.json")) if folder.is_dir() else []
        return [*([entry.performance] if entry.performance.get("host") else []), *map(read_json, found)]

    def remove(self, name: str, version: str) -> Version:
        """Take a version out, and return it; its number is not given again. Its files go with the last version that has
        them.

        Raises PackageError where there is none, or it is in a stage.
        """
        with self._writing("nothing was removed", alone=True):
            found = self._version(Reference(checked_name(name), versions=str(Version.parse(version))))
            held = [stage for stage, other in self.stages(name).items() if other == str(found)]
            if held:
                hint = f"put another version there first, or: modelbuild registry unassign {name}#{held[0]}"
                raise PackageError(f"{name} {found} is in {', '.join(held)}", hint=hint)
            self._models.remove(name, found)
            with suppress(PackageError, HostError):  # what cannot be read may have any files
                self._objects.keep_only({entry.digest for entry in self.entries()})
        return found

    def entries(self) -> Iterator[Entry]:
        """Every version of every model, by name, the oldest first."""
        for name in self.names():
            for version in self.versions(name):
                yield self._models.read(name, version)

    @contextmanager
    def _writing(self, otherwise: str, *, alone: bool = False) -> Iterator[None]:
        """Publish beside others, or remove when nobody publishes. `otherwise` says what is so if it cannot be."""
        require_begun(self.root)
        try:
            with hold(self.root / "lock", shared=not alone):
                yield
        except OSError as error:
            raise HostError(
                f"{error.strerror or error}", where=str(error.filename or self.root), hint=otherwise
            ) from error
