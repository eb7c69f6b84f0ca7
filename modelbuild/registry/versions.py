"""Semantic versions (semver.org, 2.0.0), and ranges of them as npm and Cargo write them: `^1.2`, `~1.2.3`, `>=1 <3`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import total_ordering

from modelbuild.errors import PackageError

# No longer than any number needs to be.
_NUMBER = r"(?:0|[1-9][0-9]{0,14})"
_WORD = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_WORD}(?:\.{_WORD})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_PART = re.compile(
    rf"(\^|~|>=|<=|>|<|=)?({_NUMBER})(?:\.({_NUMBER}|[xX*]))?(?:\.({_NUMBER}|[xX*]))?(?:-({_WORD}(?:\.{_WORD})*))?"
)
_LATEST = ("", "*", "latest")


@total_ordering
@dataclass(frozen=True)
class Version:
    """`major.minor.patch`, with what comes before a release (`-rc.1`), ordered as semver.org says.

    What stands behind a `+` is kept in `build`, and makes no other version.
    """

    major: int
    minor: int
    patch: int
    before: tuple[str, ...] = ()
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises PackageError for what is no semantic version."""
        found = _VERSION.fullmatch(text)
        if not found:
            hint = "write it as major.minor.patch, such as 1.2.0 or 2.0.0-rc.1"
            raise PackageError(f"'{text}' is no semantic version", hint=hint)
        before = tuple(found[4].split(".")) if found[4] else ()
        return cls(int(found[1]), int(found[2]), int(found[3]), before, found[5] or "")

    def __str__(self) -> str:
        before = f"-{'.'.join(self.before)}" if self.before else ""
        return f"{self.major}.{self.minor}.{self.patch}{before}{f'+{self.build}' if self.build else ''}"

    @property
    def release(self) -> tuple[int, int, int]:
        """The three numbers."""
        return self.major, self.minor, self.patch

    def _order(self) -> tuple[object, ...]:
        # Numbers come before words, and fewer parts before more; a release after everything before it.
        parts = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in self.before)
        return (*self.release, not self.before, parts)

    def __lt__(self, other: object) -> bool:
        return self._order() < other._order() if isinstance(other, Version) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._order() == other._order()

    def __hash__(self) -> int:
        return hash(self._order())


def following(versions: Iterable[Version], *, major: bool = False) -> Version:
    """The version after all of `versions`, which are those that were ever given: the first is 1.0.0, then come minor
    ones, or the next major one. What came before a release that is such a one is followed by it.
    """
    newest = max(versions, default=None)
    if newest is None:
        return Version(1, 0, 0)
    if newest.before and newest.patch == 0 and not (major and newest.minor):
        return Version(*newest.release)
    return Version(newest.major + 1, 0, 0) if major else Version(newest.major, newest.minor + 1, 0)


def choose(versions: Iterable[Version], wanted: str) -> Version | None:
    """The newest of `versions` in the range `wanted`, or None. What comes before a release is in no range that does not
    name one of the same release. Raises PackageError for what is no range.
    """
    fits = _range(wanted)
    return max((version for version in versions if fits(version)), default=None)


def _range(wanted: str) -> Callable[[Version], bool]:
    if wanted.strip() in _LATEST:
        return lambda version: not version.before
    parts = [_part(part, wanted) for part in wanted.replace(",", " ").split()]
    bounds = [_bounds(*part) for part in parts]
    named = {low.release for _, _, low in parts if low.before}

    def fits(version: Version) -> bool:
        if version.before and version.release not in named:
            return False
        return all(low <= version and (high is None or version < high) for low, high in bounds)

    return fits


def _part(part: str, wanted: str) -> tuple[str, list[int], Version]:
    """The operator of a part of a range, the numbers that are said in it, and the lowest version of these."""
    found = _PART.fullmatch(part)
    said = [number for number in found.groups()[1:4] if number] if found else []
    numbers = [int(number) for number in said if number.isdecimal()]
    if not found or said[: len(numbers)] != [str(number) for number in numbers] or (found[5] and len(numbers) < 3):
        hint = "write one such as ^1.2, ~1.2.3, '>=1.0 <2.0', 1.x, or a version"
        raise PackageError(f"'{wanted}' is no range of versions", hint=hint)
    return found[1] or "=", numbers, _version(numbers, tuple(found[5].split(".")) if found[5] else ())


def _bounds(operator: str, numbers: list[int], low: Version) -> tuple[Version, Version | None]:
    """The lowest version of a part of a range, and the lowest that is above it."""
    first = Version(0, 0, 0, ("0",))
    last = _after(low) if len(numbers) == 3 else _above(numbers, len(numbers) - 1)
    match operator:
        case "^":
            return low, _above(
                numbers, next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
            )
        case "~":
            return low, _above(numbers, min(1, len(numbers) - 1))
        case ">=":
            return low, None
        case ">":
            return last, None
        case "<":
            return first, low
        case "<=":
            return first, last
        case _:
            return low, last


def _above(numbers: list[int], place: int) -> Version:
    """The first version that is another in the number at `place`: what comes before that release is not below it."""
    return _version([*numbers[:place], numbers[place] + 1], ("0",))


def _version(numbers: list[int], before: tuple[str, ...]) -> Version:
    major, minor, patch = [*numbers, 0, 0][:3]
    return Version(major, minor, patch, before)


def _after(version: Version) -> Version:
    """The first version after this one alone."""
    if version.before:
        return Version(*version.release, (*version.before, "0"))
    return Version(version.major, version.minor, version.patch + 1, ("0",))
