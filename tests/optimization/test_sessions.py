"""session=auto: the preset that is best on this machine is what later stages and the package have."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from modelbuild.config.location import packaged
from modelbuild.precision_spec import Fp32Precision
from modelbuild.report import write_report
from modelbuild.session_presets import PRESETS, settled
from modelbuild.spec import Optimization, Providers, Session
from modelbuild.stage_spec import OptimizeSpec, Timing
from modelbuild.stages import optimize


@pytest.mark.slow
def test_the_presets_are_measured_and_later_stages_have_the_best(exported: Path, tmp_path: Path) -> None:
    session = Session(auto=True, config_entries={"session.set_denormal_as_zero": "1"})
    spec = OptimizeSpec(
        optimization=Optimization(kind="extended"),
        precision=Fp32Precision(kind="fp32"),
        timing=Timing(providers=Providers(order=("cpu",)), session=session, host={}),
    )
    report = optimize.run(spec, {"export": exported}, tmp_path)
    found = report.facts["session"]
    assert set(found["presets"]) == set(PRESETS)
    write_report(report, tmp_path / "report.json")
    chosen = settled(session, tmp_path)
    assert not chosen.auto
    assert chosen.settings().items() >= (PRESETS[found["chosen"]] | {"config_entries": chosen.config_entries}).items()
    assert chosen.config_entries["session.set_denormal_as_zero"] == "1"


def test_a_session_that_was_said_is_what_it_is(tmp_path: Path) -> None:
    assert settled(Session(intra_op_num_threads=3), tmp_path) == Session(intra_op_num_threads=3)


@pytest.mark.parametrize("key", ["intra_op_num_threads", "inter_op_num_threads"])
def test_what_is_to_be_found_cannot_be_said_too(key: str) -> None:
    with pytest.raises(ValidationError, match=f"auto=true with {key}, which is one of the things that it finds"):
        Session.model_validate({"auto": True, key: 2})


def test_the_file_of_the_choice_says_it() -> None:
    assert "auto: true" in packaged("conf/session/auto.yaml").read_text(encoding="utf-8")
