"""Which fusion is to blame."""

from __future__ import annotations

from modelbuild.fusions.blame import verdict

NAMES = ("attention", "GeluFusionL2")


def test_the_fusion_without_which_it_works_is_named() -> None:
    assert verdict(NAMES, lambda without: "attention" in without) == "without attention fusion it does"
    assert verdict(NAMES, lambda without: "GeluFusionL2" in without) == "without GeluFusionL2 it does"


def test_two_fusions_that_are_wrong_each_for_itself_are_blamed_together() -> None:
    assert verdict(NAMES, lambda without: len(without) == 2) == "no fusion alone is to blame; without any it does"


def test_where_leaving_out_all_of_them_changes_nothing_no_fusion_is_blamed() -> None:
    assert verdict(NAMES, lambda without: False).startswith("it is no fusion's fault")


def test_nothing_is_said_where_there_is_nothing_to_leave_out() -> None:
    assert verdict((), lambda without: True) == ""
