"""What a package in a registry is called: `registry:minilm@^1`, `registry:minilm#production`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelbuild.errors import PackageError

SCHEME = "registry:"
# A name is a folder everywhere, on file systems that take `A` for `a` too.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Reference:
    """A name, and which of its versions: the newest in a range, or the one that is in a stage."""

    name: str
    versions: str = ""
    stage: str = ""

    def __str__(self) -> str:
        return self.name + (f"#{self.stage}" if self.stage else f"@{self.versions}" if self.versions else "")


def parse_reference(text: str) -> Reference:
    """`minilm`, `minilm@1.2.0`, `minilm@^1`, `minilm#production`, with or without `registry:` before it. Raises
    PackageError for what is none of these.
    """
    plain = text.removeprefix(SCHEME)
    name, by_stage, stage = plain.partition("#")
    name, by_version, versions = name.partition("@")
    if by_stage and by_version:
        raise PackageError(f"'{text}' names versions and a stage", hint="choose one of name@versions and name#stage")
    if (by_stage and not stage) or (by_version and not versions):
        raise PackageError(
            f"'{text}' names no {'stage' if by_stage else 'version'}", hint="write name@1.2.0 or name#stage"
        )
    return Reference(checked_name(name), versions=versions, stage=checked_stage(stage) if stage else "")


def checked_name(name: str) -> str:
    """`name`, if it can be one of a model. Raises PackageError otherwise."""
    if not is_name(name):
        hint = "write it in lower case: a letter or digit, and then letters, digits, '.', '_' and '-'"
        raise PackageError(f"'{name}' is no name", hint=hint)
    return name


def is_name(name: str) -> bool:
    """Whether it can be the name of a model."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def checked_stage(stage: str) -> str:
    """`stage`, if it can be the name of one, which no version could be. Raises PackageError otherwise."""
    if not is_name(stage) or not stage[0].isalpha() or stage == "latest":
        raise PackageError(f"'{stage}' is no stage", hint="write a word in lower case, such as production")
    return stage
