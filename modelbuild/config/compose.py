"""Compose a configuration with Hydra: by its own command line, or from a list of overrides."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig as DictConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from modelbuild.config.location import config_folders, packaged
from modelbuild.config.overrides import TOP_KEYS, examine, prepare
from modelbuild.config.schema import decode
from modelbuild.errors import ConfigError, ModelbuildError, Problem
from modelbuild.registry import Registration, registration
from modelbuild.spec import BuildSpec

CONFIG_NAME = "config"
VERSION_BASE = "1.3"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for: a build, where to publish its package besides (absolute, or None), and as what in a registry,
    if at all.
    """

    spec: BuildSpec
    out: Path | None
    registration: Registration | None


class _UserConfig(SearchPathPlugin):
    """Puts the workspace's `conf/` before modelbuild's, so that a user's file of the same name wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        mine = config_folders(Path.cwd())[0]
        if mine != packaged("conf"):
            search_path.prepend("workspace", f"file://{mine}")


def compose(overrides: Sequence[str], workspace: Path) -> Request:
    """The build that `overrides` ask for. Raises ConfigError with every problem."""
    prepared, problems = examine(overrides, workspace)
    Plugins.instance().register(_UserConfig)
    GlobalHydra.instance().clear()
    with (
        _one_error(),
        hydra.initialize_config_dir(str(packaged("conf")), version_base=VERSION_BASE, job_name="modelbuild"),
    ):
        config = hydra.compose(CONFIG_NAME, overrides=prepared)
    try:
        request = request_of(config, workspace)
    except ConfigError as error:
        raise ConfigError.collected([*problems, *error.problems]) from error
    if problems:
        raise ConfigError.collected(problems)
    return request


def compose_sweep(overrides: Sequence[str], workspace: Path) -> list[Request]:
    """The builds of a sweep, in Hydra's order. Raises ConfigError with the problems of all of them."""
    with _one_error():
        parsed = OverridesParser.create().parse_overrides(prepare(overrides, workspace))
        jobs = [job for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for job in batch]
    requests, problems = [], []
    for number, job in enumerate(jobs):
        chosen = [item for item in job if not item.lstrip("+").startswith("hydra")]
        where = f"job {number} ({','.join(job)})" if len(jobs) > 1 else ""
        try:
            requests.append(compose([item.removeprefix("++") for item in chosen], workspace))
        except ConfigError as error:
            problems += [
                Problem(p.what, " in ".join(part for part in (p.where, where) if part), p.hint) for p in error.problems
            ]
    problems += _published_as_one(requests)
    if problems:
        raise ConfigError.collected(problems)
    return requests


def _published_as_one(requests: Sequence[Request]) -> list[Problem]:
    """A name in a registry that several jobs of a sweep would be published as: which is the newest would be chance."""
    names = Counter(request.registration.name for request in requests if request.registration)
    hint = "publish what you choose afterwards: python -m modelbuild registry add PACKAGE NAME"
    return [
        Problem(f"{number} jobs would be published as '{name}'", "register.name", hint)
        for name, number in names.items()
        if number > 1
    ]


def request_of(config: DictConfig, workspace: Path) -> Request:
    """A composed configuration, resolved and decoded. Raises ConfigError with every problem."""
    with _one_error():
        missing = OmegaConf.missing_keys(config)
        values: Any = OmegaConf.to_container(config, resolve=True)
    if missing:
        raise ConfigError.collected(
            [Problem("required, and not given", key, f"set {key}=…") for key in sorted(missing)]
        )
    groups = {key: value for key, value in values.items() if key not in (*TOP_KEYS, "hydra", "build")}
    out = values.get("out")
    if not isinstance(out, str | None):
        raise ConfigError(f"a folder is wanted, got {out!r}", where="out", hint="quote it: out=\"'…'\"")
    spec = decode(groups, workspace)
    registered = registration(values.get("register"), workspace)
    if registered and spec.validation.kind == "off":
        hint = "set validation=quick or strict"
        raise ConfigError("a package that is not proven is not published", where="register.name", hint=hint)
    return Request(spec=spec, out=(workspace / out).resolve() if out else None, registration=registered)


def run_hydra(arguments: Sequence[str], job: Callable[[DictConfig], None]) -> None:
    """Run `job` as a Hydra application with these command-line `arguments`: run, multirun, help, completion and all.

    Raises ConfigError for what Hydra refuses, and whatever `job` raises.
    """
    Plugins.instance().register(_UserConfig)
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["modelbuild", *arguments]
    with _one_error():
        hydra.main(version_base=VERSION_BASE, config_path=str(packaged("conf")), config_name=CONFIG_NAME)(job)()


def job_of_sweep() -> tuple[int, str]:
    """Inside a job of a sweep: its number and its overrides."""
    config = HydraConfig.get()
    return int(config.job.num), str(config.job.override_dirname)


@contextmanager
def _one_error() -> Iterator[None]:
    """What Hydra, OmegaConf and YAML complain of, as one ConfigError of one line."""
    try:
        yield
    except ModelbuildError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(
            lines[0] if lines else type(error).__name__, where=getattr(error, "full_key", "") or ""
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where="conf") from error
    except ValueError as error:  # a file that is not UTF-8; a number where the name of a choice belongs
        hint = 'quote numbers in a defaults list: override /opset: "17"'
        raise ConfigError(
            str(error),
            where="conf",
            hint=hint if re.search(r"\bint\b", str(error)) else "",
        ) from error
