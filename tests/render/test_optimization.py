from __future__ import annotations

from typing import Any

from modelbuild.render.optimization import lines, tried


def ratio(median: float) -> dict[str, Any]:
    return {"median": median, "low": median, "high": median, "verdict": "faster"}


SEARCHED: dict[str, Any] = {
    "kind": "transformer",
    "search": {
        "chosen": "transformer",
        "baseline": "none",
        "disturbed": False,
        "candidates": {
            "none": {"nodes": 9, "latency_ms": {"1x16": 2.0}, "speedup": {}, "why": "slower than transformer"},
            "extended": {"why": "wrong: it crashed"},
            "transformer": {
                "nodes": 3, "latency_ms": {"1x16": 1.0}, "why": "",
                "speedup": {"1x16": ratio(2.0), "4x128": ratio(8.0)},
            },
        },
    },
}  # fmt: skip
REDUCED: dict[str, Any] = {"precision": {"kind": "int8", "layers": 12, "kept_fp32": ["a", "b"]}}


def test_a_build_that_was_not_searched_for_says_nothing() -> None:
    assert lines({"model": {"kind": "extended"}}) == []
    assert tried({"model": {"kind": "extended"}}) == []


def test_a_search_is_a_line_and_a_table() -> None:
    assert lines({"model": SEARCHED}) == ["transformer, of 3 tried and 2 timed; 4.00x the speed of none"]
    rows = tried({"model": SEARCHED})
    assert [(row["kind"], row["nodes"], row["result"]) for row in rows] == [
        ("none", 9, "slower than transformer"),
        ("extended", None, "wrong: it crashed"),
        ("transformer", 3, "ships"),
    ]
    assert rows[2]["speedup"] == {"1x16": 2.0, "4x128": 8.0}


def test_a_search_on_a_busy_machine_says_so() -> None:
    (line,) = lines({"model": SEARCHED | {"search": SEARCHED["search"] | {"disturbed": True}}})
    assert line.endswith("(other work disturbed the timing)")


def test_a_reduced_precision_says_how_many_layers_have_it() -> None:
    assert lines({"encoder": REDUCED, "decoder": SEARCHED})[0] == (
        "encoder: 10 of 12 linear layers in int8, 2 kept in fp32"
    )
