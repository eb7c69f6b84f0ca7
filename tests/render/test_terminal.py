"""What the terminal says of fusions: one line, where they were promised."""

from __future__ import annotations

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
