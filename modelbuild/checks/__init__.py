"""What is checked of a model that is to ship, one module per subject. Each check is data: a Check that passed or not.

The stage `validate` lists the modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modelbuild.checks.subject import Subject
    from modelbuild.report import Check
    from modelbuild.tasks import FamilyName

# What is checked of the configs of models of one family, imported where it is wanted: pipelines alone need diffusers.
OF_FAMILY: dict[FamilyName, str] = {"diffusion": "modelbuild.checks.diffusers_files"}


class CheckModule(Protocol):
    """What a module of checks has: `examine` yields a Check for everything it looked at, passed or not."""

    def examine(self, subject: Subject) -> Iterable[Check]: ...
