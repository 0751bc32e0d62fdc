"""Whether every restored value is in the live database."""

from __future__ import annotations

from typing import Any

import pytest

from resources.engine.merge.check import Found, SliceContents
from resources.errors import BadReply
from resources.protocol.query_results import Series


def series(*rows: tuple[Any, ...], fields: tuple[str, ...] = ("a", "b"), **tags: str) -> Series:
    return Series("m", tags, ("time", *fields), rows)


RESTORED = [
    series((1, 1, "x"), (2, None, True), host="h1"),
    series((1, 2.5, None), host="h2"),
]


def test_a_slice_has_everything_of_itself_in_any_order() -> None:
    wanted = SliceContents(RESTORED)
    assert len(wanted) == 4
    turned = [
        series((1, 2.5, None), host="h2"),
        series((2, True, None), fields=("b", "a"), host="h1"),
        series((1, "x", 1), fields=("b", "a"), host="h1"),
    ]
    for live in (RESTORED, turned):
        found = wanted.compare(live)
        assert found == Found(4, 0, 0)
        assert found.complete
        assert wanted.example(live, RESTORED) is None


def test_what_the_live_database_has_of_its_own_changes_nothing() -> None:
    live = [
        *RESTORED,
        series((1, 1, "x"), (3, 9, "x"), host="h9"),
        series((9, 9, 9), fields=("a", "c"), host="h1"),
    ]
    assert SliceContents(RESTORED).compare(live) == Found(4, 0, 0)


@pytest.mark.parametrize("at", range(4))
def test_any_value_that_is_missing_is_counted_and_named(at: int) -> None:
    singles = [
        series((1, 1, None), host="h1"),
        series((1, None, "x"), host="h1"),
        series((2, None, True), host="h1"),
        series((1, 2.5, None), host="h2"),
    ]
    words = ["m,host=h1 a=1 at 1", "m,host=h1 b='x' at 1", "m,host=h1 b=True at 2"]
    words.append("m,host=h2 a=2.5 at 1")
    live = singles[:at] + singles[at + 1 :]
    wanted = SliceContents(RESTORED)
    assert wanted.compare(live) == Found(3, 0, 1)
    assert not wanted.compare(live).complete
    assert wanted.example(live, RESTORED) == ("missing", words[at])


@pytest.mark.parametrize(
    ("was", "is_now"),
    [(1, 2), ("1", 1), (True, "true"), (0.1, 0.1000000001), (2**53, 2**53 + 1), ("a", "a "),
     (1, 1.0), (1, True), (0, False), (2**64 - 1, 2**63), (2**64 - 1, -1), (0.0, -0.0)],
)  # fmt: skip
def test_another_value_in_the_same_place_is_told_from_a_missing_one(was: Any, is_now: Any) -> None:
    wanted = SliceContents([series((7, was), fields=("f",))])
    live = [series((7, is_now), fields=("f",))]
    assert wanted.compare(live) == Found(0, 1, 0)
    kind, what = wanted.example(live, [series((7, was), fields=("f",))]) or ("", "")
    assert kind == "other"
    assert what == f"m, f={was!r} at 7"


@pytest.mark.parametrize(
    "live",
    [
        series((8, 1), fields=("f",), k="v"),
        series((7, 1), fields=("g",), k="v"),
        series((7, 1), fields=("f",), k="w"),
        series((7, 1), fields=("f",), l="v"),
        series((7, 1), fields=("f",)),
        series((7, 1), fields=("f",), k="v", more="v"),
        series((7, None), fields=("f",), k="v"),
    ],
)
def test_a_value_elsewhere_is_none_of_the_restored(live: Series) -> None:
    wanted = SliceContents([series((7, 1), fields=("f",), k="v")])
    assert wanted.compare([live]) == Found(0, 0, 1)


def test_a_value_of_a_doubtful_field_is_no_longer_trusted_once_a_type_was_refused() -> None:
    """A server writes the float 1.0 as it writes the integer 1."""
    wanted = SliceContents(RESTORED, doubtful={"a"})
    assert wanted.doubted == 2
    assert wanted.compare(RESTORED) == Found(4, 0, 0)
    assert wanted.example(RESTORED, RESTORED) is None
    assert wanted.compare(RESTORED, types_differ=True) == Found(2, 2, 0)
    named = wanted.example(RESTORED, RESTORED, types_differ=True)
    assert named == ("type", "m,host=h1 a=1 at 1")
    missing = [RESTORED[0]]
    assert wanted.compare(missing, types_differ=True) == Found(2, 1, 1)
    other = [series((1, 9, "x"), (2, None, True), host="h1"), RESTORED[1]]
    assert wanted.example(other, RESTORED, types_differ=True) == ("other", "m,host=h1 a=1 at 1")


def test_without_doubtful_fields_a_refusal_changes_nothing() -> None:
    wanted = SliceContents(RESTORED, doubtful={"c"})
    assert wanted.doubted == 0
    assert wanted.compare(RESTORED, types_differ=True) == Found(4, 0, 0)


def test_a_tag_without_a_value_is_no_tag() -> None:
    wanted = SliceContents([series((7, 1), fields=("f",), k="v", zone="")])
    assert wanted.compare([series((7, 1), fields=("f",), k="v", rack="")]) == Found(1, 0, 0)


def test_names_cannot_be_taken_for_other_names_by_where_they_end() -> None:
    wanted = SliceContents([series((1, 1), fields=("f",), a="b', 'c")])
    assert wanted.compare([series((1, 1), fields=("f",), a="b", c="")]) == Found(0, 0, 1)
    wanted = SliceContents([series((11, 1), fields=("f",), a="b")])
    assert wanted.compare([series((1, 1), fields=("1f",), a="b")]) == Found(0, 0, 1)


def test_nothing_restored_is_found_in_anything() -> None:
    empty = SliceContents([])
    assert len(empty) == 0
    assert empty.compare(RESTORED) == Found(0, 0, 0)
    assert empty.compare([]).complete
    assert SliceContents(RESTORED).compare([]) == Found(0, 0, 4)


@pytest.mark.parametrize("time", [None, "1", 1.5, True, [], "1970-01-01T00:00:00Z"])
def test_a_row_without_a_time_is_refused(time: Any) -> None:
    with pytest.raises(BadReply, match="has no time"):
        SliceContents([series((time, 1, 1))])
    with pytest.raises(BadReply, match="has no time"):
        SliceContents(RESTORED).compare([series((time, 1, 1))])


def test_a_row_without_anything_is_refused() -> None:
    with pytest.raises(BadReply, match="has no time"):
        SliceContents([Series("m\x1b", {}, (), ((),))])
