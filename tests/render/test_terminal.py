"""What the terminal says of fusions: one line, where they were promised."""

from __future__ import annotations

from typing import Any

import pytest

from modelbuild.render import terminal
from modelbuild.report import Report

_LINE = "5 of 6 layers (com.microsoft.Attention x 5)"


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({"optimization": "extended", "fusions": {}}, []),
        ({"attention_fusions": ["6 of 6 layers"], "warnings": []}, ["attention in 6 of 6 layers"]),
        (
            {"attention_fusions": [_LINE], "warnings": [f"attention is fused in {_LINE} only"]},
            [f"warning: attention is fused in {_LINE} only"],
        ),
    ],
)
def test_fusions_are_one_line_where_they_were_promised(facts: dict[str, object], lines: list[str]) -> None:
    assert terminal._fusions(Report(stage="optimize", facts=facts)) == lines


def measured() -> dict[str, Any]:
    """The facts of a benchmark of one case, with what torch.compile made."""
    ratio = {"median": 2.0, "low": 1.9, "high": 2.1, "verdict": "faster"}
    case = {
        "graph": "model", "phase": "", "batch": 4, "length": 128, "speedup": ratio, "speedup_over_compiled": ratio,
        "onnxruntime": {"p50_ms": 10.0}, "pytorch": {"p50_ms": 20.0}, "compiled": {"p50_ms": 15.0},
    }  # fmt: skip
    graph = {"load_ms": {"pytorch": 300.0, "onnxruntime": 100.0, "exported": 200.0}, "load_speedup": ratio}
    return {
        "status": "measured",
        "notes": ["model takes 128 positions at most: 128, not 512, measured"],
        "graphs": {"model": graph},
        "sessions": {"preset": "latency", "reason": "the fastest", "disturbed": True},
        "cases": {"b4_s128": case},
    }


def test_a_case_is_one_line_with_every_side_and_its_interval() -> None:
    line, note = terminal._latency(measured())
    assert line == (
        "batch 4, length 128: 10 ms, PyTorch eager 20 ms, 2.00x (1.90 to 2.10), faster; "
        "torch.compile 15 ms, 2.00x (1.90 to 2.10), faster"
    )
    assert note.endswith("128, not 512, measured")


def test_the_load_time_is_beside_that_of_the_exported_file() -> None:
    facts = measured()
    assert terminal._loading(facts) == ["100 ms, as exported 200 ms, 2.00x (1.90 to 2.10), faster"]
    facts["graphs"] = {"encoder": facts["graphs"]["model"], "decoder": facts["graphs"]["model"]}
    assert [line.partition(": ")[0] for line in terminal._loading(facts)] == ["encoder", "decoder"]


def test_the_preset_that_suits_the_machine_is_one_line() -> None:
    assert terminal._session(measured()) == ["best here: latency, the fastest (disturbed)"]


def test_nothing_is_said_of_what_was_not_measured() -> None:
    off = {"status": "off"}
    assert (terminal._latency(off), terminal._loading(off), terminal._session(off)) == (["not measured"], [], [])
