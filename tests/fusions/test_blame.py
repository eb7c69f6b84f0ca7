"""Which fusion is to blame."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelbuild.fusions.blame import verdict

NAMES = ("attention", "GeluFusionL2")
MANY = tuple(f"Fusion{number}" for number in range(31))


def counted(works: Callable[[frozenset[str]], bool]) -> tuple[list[frozenset[str]], Callable[[frozenset[str]], bool]]:
    """`works`, and the list of what it was asked."""
    asked: list[frozenset[str]] = []

    def asking(without: frozenset[str]) -> bool:
        asked.append(without)
        return works(without)

    return asked, asking


def test_the_fusion_without_which_it_works_is_named() -> None:
    assert verdict(NAMES, lambda without: "attention" in without) == "without attention fusion it does"
    assert verdict(NAMES, lambda without: "GeluFusionL2" in without) == "without GeluFusionL2 it does"
    assert verdict(NAMES[:1], lambda without: "attention" in without) == "without attention fusion it does"


@pytest.mark.parametrize("guilty", MANY)
def test_any_one_of_many_is_found_in_few_attempts(guilty: str) -> None:
    asked, works = counted(lambda without: guilty in without)
    assert verdict(MANY, works) == f"without {guilty} it does"
    assert asked[0] == frozenset(MANY)
    assert len(asked) <= 11


def test_two_fusions_that_are_wrong_each_for_itself_are_blamed_together() -> None:
    assert verdict(NAMES, lambda without: len(without) == 2) == "no fusion alone is to blame; without any it does"
    for other in MANY[1:]:
        assert verdict(MANY, frozenset({MANY[0], other}).issubset).startswith("no fusion alone is to blame")


def test_of_two_fusions_that_are_wrong_together_one_is_named() -> None:
    assert verdict(MANY, lambda without: bool({"Fusion3", "Fusion30"} & without)) == "without Fusion3 it does"


def test_where_leaving_out_all_of_them_changes_nothing_no_fusion_is_blamed_and_nothing_else_tried() -> None:
    asked, works = counted(lambda without: False)
    assert verdict(MANY, works).startswith("it is no fusion's fault")
    assert asked == [frozenset(MANY)]


def test_nothing_is_said_where_there_is_nothing_to_leave_out() -> None:
    assert verdict((), lambda without: True) == ""
