"""Every defect is found by the check that is meant for it, and named. Optimum's own validation is asked the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from defects.defect import Defect
from defects.models import MODELS, Build, make, run_placement, run_source_and_export, run_validate
from defects.peer import verdict
from defects.table import DEFECTS, Outcome, render, verdicts

from modelbuild.errors import ModelbuildError
from modelbuild.report import Report

pytestmark = pytest.mark.slow
PAGE = Path(__file__).resolve().parents[2] / "docs" / "defects.md"
NAMES = [defect.name for defect in DEFECTS]

Builds = Callable[[str], Build]
References = Callable[[str], torch.nn.Module]
Outcomes = dict[str, Outcome]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """The build of each model, made when it is first asked for."""

    @cache
    def build(name: str) -> Build:
        return make(MODELS[name], tmp_path_factory.mktemp(name))

    return build


@pytest.fixture(scope="module")
def references(builds: Builds) -> References:
    """The original of each model, for Optimum, which is given what it would have loaded."""

    @cache
    def reference(name: str) -> torch.nn.Module:
        return builds(name).reference()

    return reference


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """What was found so far, by the name of the defect."""
    return {}


def _report(defect: Defect, build: Build) -> Report:
    """What the stage that the defect is for reports."""
    match defect.stage:
        case "validate":
            return run_validate(build)
        case "export":
            return run_source_and_export(build)
        case "placement":
            return run_placement(build, defect.providers)


def _said(defect: Defect, build: Build) -> tuple[str, str]:
    """The line of the check that is meant to find the defect, or of the error; and the place of the diagnosis."""
    if not defect.check.endswith("Error"):
        report = _report(defect, build)
        lines = {check.name: check.line() for check in report.failures()}
        assert {defect.check, *defect.also} <= lines.keys(), f"found: {lines}"
        return lines[defect.check], report.facts.get("diagnosis", {}).get("place", "")
    with pytest.raises(ModelbuildError) as caught:
        _report(defect, build)
    assert type(caught.value).__name__ == defect.check
    return " ".join(caught.value.lines()).replace(f"{build.folders['source'].parent}/", ""), ""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_a_defect_passes_here_and_there(
    name: str, builds: Builds, references: References, tmp_path: Path
) -> None:
    build = builds(name).copy(tmp_path)
    report = run_validate(build)
    assert report.passed, [check.line() for check in report.failures()]
    assert verdict(build.folders["optimize"], references(name), build.model.task) == "missed"


@pytest.mark.parametrize("defect", DEFECTS, ids=NAMES)
def test_a_defect_is_found_and_named(
    defect: Defect, builds: Builds, references: References, outcomes: Outcomes, tmp_path: Path
) -> None:
    build = builds(defect.model).copy(tmp_path)
    with defect.original():
        defect.plant(build)
        line, place = _said(defect, build)
        theirs = defect.optimum or verdict(build.folders["optimize"], references(defect.model), build.model.task)
    assert re.search(defect.message, line), line
    assert re.search(defect.place, place), place
    outcomes[defect.name] = Outcome(defect=defect, said=line, place=place, optimum=theirs)


def test_the_page_of_defects_says_what_was_found(outcomes: Outcomes, request: pytest.FixtureRequest) -> None:
    if set(outcomes) != set(NAMES):
        pytest.skip("needs every defect to have been found in this run")
    page = render([outcomes[name] for name in NAMES])
    if request.config.getoption("--write-tables"):
        PAGE.write_text(page, encoding="utf-8")
    assert verdicts(PAGE.read_text(encoding="utf-8")) == verdicts(page), (
        "stale: python -m pytest tests/defects --write-tables"
    )


def test_no_two_defects_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
