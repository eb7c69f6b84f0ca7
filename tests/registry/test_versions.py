"""Versions and ranges of them, as semver.org orders them and npm takes them."""

from __future__ import annotations

import itertools

import pytest

from modelbuild.errors import PackageError
from modelbuild.registry.versions import Version, choose, following

# semver.org, section 11: in this order.
ORDERED = (
    "1.0.0-0", "1.0.0-1.0", "1.0.0-9", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
    "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0", "10.0.0",
)  # fmt: skip
VERSIONS = tuple(map(Version.parse, ORDERED))


@pytest.mark.parametrize(("lower", "higher"), list(itertools.pairwise(ORDERED)))
def test_versions_are_in_the_order_of_semver(lower: str, higher: str) -> None:
    assert Version.parse(lower) < Version.parse(higher)
    assert not Version.parse(higher) < Version.parse(lower)
    assert Version.parse(lower) != Version.parse(higher)


@pytest.mark.parametrize("text", [*ORDERED, "1.0.0+build.5", "1.0.0-rc.1+001", "0.0.0"])
def test_a_version_is_written_as_it_was_read(text: str) -> None:
    assert str(Version.parse(text)) == text


def test_a_build_makes_no_other_version() -> None:
    assert Version.parse("1.0.0+a") == Version.parse("1.0.0+b")
    assert hash(Version.parse("1.0.0+a")) == hash(Version.parse("1.0.0"))


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "v1.0.0", "1..0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0.0", "1.0.0 ", "a.b.c"],
)
def test_what_is_no_semantic_version_is_refused(text: str) -> None:
    with pytest.raises(PackageError, match=r"is no semantic version: write it as major\.minor\.patch"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", "10.0.0"),
        ("latest", "10.0.0"),
        ("*", "10.0.0"),
        ("1.2.0", "1.2.0"),
        ("=1.2.0", "1.2.0"),
        ("1", "1.10.0"),
        ("1.x", "1.10.0"),
        ("1.0", "1.0.1"),
        ("1.0.x", "1.0.1"),
        ("^1", "1.10.0"),
        ("^1.0.1", "1.10.0"),
        ("^2.0.0", "2.0.0"),
        ("~1.0", "1.0.1"),
        ("~1.2.0", "1.2.0"),
        (">=1 <2", "1.10.0"),
        (">=1.0.0,<1.2.0", "1.0.1"),
        ("<1.2.0", "1.0.1"),
        ("<=1.2.0", "1.2.0"),
        (">1.10.0", "10.0.0"),
        (">1 <10", "2.0.0"),
        ("1.0.0-rc.1", "1.0.0-rc.1"),
        (">=1.0.0-beta <1.0.0", "1.0.0-rc.1"),
        ("^2.0.0-rc.1", "2.0.0"),
        ("<=1", "1.10.0"),
    ],
)
def test_a_range_gives_the_newest_in_it(wanted: str, found: str) -> None:
    assert str(choose(VERSIONS, wanted)) == found


@pytest.mark.parametrize("wanted", ["3", "^3", "~1.3", ">10.0.0", "1.2.1", "<1.0.0", "2.0.0-rc.2"])
def test_an_empty_range_gives_none(wanted: str) -> None:
    assert choose(VERSIONS, wanted) is None


def test_what_comes_before_a_release_is_in_no_range_that_does_not_name_it() -> None:
    assert choose([Version.parse("2.0.0-rc.1")], ["^1", "2"][0]) is None
    assert choose([Version.parse("2.0.0-rc.1")], "*") is None
    assert str(choose([Version.parse("2.0.0-rc.1")], ">=2.0.0-rc.0")) == "2.0.0-rc.1"


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        (["1.2.3", "1.2.4-rc.1"], ">1.2.3"),
        (["1.0.0", "2.0.0-rc.1"], ">1"),
        (["1.1.0", "1.2.0-rc.1"], ">1.1"),
        (["0.0.0-alpha"], "<1"),
        (["1.3.0-rc.1", "1.2.9"], ">1.2.9 <2"),
    ],
)
def test_a_bound_does_not_name_what_comes_before_a_release(versions: list[str], wanted: str) -> None:
    assert choose(map(Version.parse, versions), wanted) is None


@pytest.mark.parametrize(
    ("versions", "major", "next_one"),
    [
        ([], False, "1.0.0"),
        (["1.0.0"], False, "1.1.0"),
        (["1.0.0", "1.0.1-rc.1"], False, "1.1.0"),
        (["1.2.3-rc.1"], False, "1.3.0"),
        (["2.0.0-rc.1", "1.4.0"], False, "2.0.0"),
        (["1.5.0-rc.1"], False, "1.5.0"),
        (["1.5.0"], True, "2.0.0"),
        (["2.0.0-rc.1"], True, "2.0.0"),
        (["1.5.0-rc.1"], True, "2.0.0"),
    ],
)
def test_the_next_version_is_above_all_and_was_never_given(versions: list[str], major: bool, next_one: str) -> None:
    given = [Version.parse(text) for text in versions]
    found = following(given, major=major)
    assert str(found) == next_one
    assert found not in given
    assert all(found > version for version in given)


@pytest.mark.parametrize(
    ("wanted", "upper"), [("^0.2.3", "0.2.9"), ("^0.0.3", "0.0.3"), ("^0", "0.9.0"), ("^0.0", "0.0.9")]
)
def test_a_caret_keeps_the_first_number_that_is_not_zero(wanted: str, upper: str) -> None:
    versions = [Version.parse(text) for text in ("0.0.3", "0.0.9", "0.2.3", "0.2.9", "0.9.0", "1.0.0")]
    assert str(choose(versions, wanted)) == upper


@pytest.mark.parametrize(
    "wanted",
    ["^", "1.2.3.4", ">=", "~x", "one", "1 - 2", "^1 || ^2", "=>1", "1.x.3", "x.1", "1.2-rc", "^" + "1" * 5000, "1٣"],
)
def test_what_is_no_range_is_refused(wanted: str) -> None:
    with pytest.raises(PackageError, match="is no range of versions: write one such as"):
        choose(VERSIONS, wanted)
