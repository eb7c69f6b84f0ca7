"""What a planted defect is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from defects.models import Build


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One thing that is wrong with a model, and what must find it.

    `plant` changes a copy of the build of `model`, one of MODELS. `check` is the check that must then fail in `stage`,
    and `message` what its line must say; where the stage raises instead, `check` is the class of the error. `also` are
    other checks that must fail with it, and `place` is what the diagnosis must say. `optimum` is empty where Optimum's
    own validation is asked as well, and says otherwise why it is not. While `original` is entered, PyTorch's model does
    what its class does not say. `providers` are those that `placement` asks for.
    """

    name: str
    group: str
    model: str
    plant: Callable[[Build], None]
    check: str
    message: str
    stage: Literal["validate", "export", "placement"] = "validate"
    also: tuple[str, ...] = ()
    place: str = ""
    optimum: str = ""
    providers: tuple[str, ...] = ()
    original: Callable[[], AbstractContextManager[None]] = nullcontext
