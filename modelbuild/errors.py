"""Every error that modelbuild raises on purpose, and the exit code each one becomes.

    ModelbuildError
    ├── ConfigError        2  CFG  the configuration, collected: one line per problem
    ├── ExportError        3  EXP  the model source, or its export
    ├── OptimizeError      4  OPT  an optimization that cannot be used
    ├── ValidationError    5  VAL  the gate: the model is not proven
    ├── PackageError       6  PKG  a package, or the integrity of a file
    ├── HostError          7  ENV  this machine: providers, disk, permissions, versions
    ├── SweepError         8  SWP  some jobs of a sweep failed
    ├── InputError         1  INP  inputs given to a loaded model; never leaves the runtime
    ├── ClosedError        1  CLO  a model or a cache that was closed; never leaves the runtime
    └── Interrupted      130  INT  Ctrl-C or SIGTERM

A message is one line, `error[CODE]: what: where: what to do`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what happened, where, and what to do about it."""

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return ": ".join(" ".join(part.split()) for part in (self.what, self.where, self.hint) if part)


class ModelbuildError(Exception):
    """What every modelbuild error is: a problem, a short code and an exit code."""

    code: ClassVar[str] = "ERR"
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, hint),)
        super().__init__(str(self.problems[0]))

    def lines(self) -> list[str]:
        """The lines to print: `error[CODE]: what: where: what to do`, one per problem."""
        return [f"error[{self.code}]: {problem}" for problem in self.problems]


class ConfigError(ModelbuildError):
    """The configuration cannot be built. Holds every problem that was found."""

    code = "CFG"
    exit_code = 2

    @classmethod
    def collected(cls, problems: list[Problem]) -> ConfigError:
        """One error for all `problems`, in order and without repeats."""
        error = cls("")
        error.problems = tuple(dict.fromkeys(problems))
        error.args = ("; ".join(map(str, error.problems)),)
        return error


class ExportError(ModelbuildError):
    """The model source cannot be read or trusted, or the model cannot be exported."""

    code = "EXP"
    exit_code = 3


class OptimizeError(ModelbuildError):
    """An optimizer failed, or what it made does not load or does not match its input."""

    code = "OPT"
    exit_code = 4


class ValidationError(ModelbuildError):
    """The gate: validation did not pass, so nothing is packaged. `report` is the file with every check, if known."""

    code = "VAL"
    exit_code = 5
    report: Path | None = None

    def found_in(self, report: Path) -> None:
        """Say where the report is, for those who do not stand in the folder of the build."""
        self.report = report
        first, *rest = self.problems
        self.problems = (Problem(first.what, str(report), first.hint), *rest)


class PackageError(ModelbuildError):
    """A package cannot be made or opened, or a file is not what its digest says."""

    code = "PKG"
    exit_code = 6


class HostError(ModelbuildError):
    """This machine cannot do what is asked: providers, disk, permissions, versions."""

    code = "ENV"
    exit_code = 7


class SweepError(ModelbuildError):
    """Some jobs of a sweep failed; the others are done."""

    code = "SWP"
    exit_code = 8


class InputError(ModelbuildError, ValueError):
    """The inputs given to a loaded model do not fit its signature."""

    code = "INP"
    exit_code = 1


class ClosedError(ModelbuildError):
    """A loaded model, or a cache of them, was closed and is used all the same."""

    code = "CLO"
    exit_code = 1


class Interrupted(ModelbuildError):
    """Ctrl-C or SIGTERM; finished stages are kept."""

    code = "INT"
    exit_code = 130


def unforeseen(error: Exception) -> ModelbuildError:
    """An error that nobody raised on purpose, as one of ours: the operating system's, or a bug."""
    if isinstance(error, OSError) and error.strerror:
        return HostError(error.strerror, where=str(error.filename or ""), hint="free or permit it and run again")
    return ModelbuildError(
        f"{type(error).__name__}: {error}", where="a bug in modelbuild", hint="run it with --debug to see where"
    )


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, or its class where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def listed(names: Sequence[object], shown: int) -> str:
    """The first `shown` of `names`, and how many more there are: `a, b and 3 more`."""
    rest = len(names) - shown
    return ", ".join(map(str, names[:shown])) + (f" and {rest} more" if rest > 0 else "")


def by_code(code: str) -> type[ModelbuildError]:
    """The error class with that short code (errors cross processes as their code and problems)."""
    return next((cls for cls in ModelbuildError.__subclasses__() if cls.code == code), ModelbuildError)
