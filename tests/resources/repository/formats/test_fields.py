"""Look-ups in a JSON object check type and range, and name the path of what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resources.errors import ManifestUnreadable
from resources.repository.formats.fields import MAX_INTEGER, Fields


def fields(**document: Any) -> Fields:
    return Fields(document, "T.manifest")


def test_keys_match_as_written_before_they_match_without_case() -> None:
    both = Fields({"FILES": "other", "files": "exact"}, "x")
    assert both.text("files") == "exact"
    assert Fields({"FileName": "a"}, "x").text("filename") == "a"
    assert Fields({"fileNAME": 3}, "x").integer("fileName") == 3


def test_null_is_absent() -> None:
    found = fields(a=None)
    assert found.text("a", default="d") == "d"
    assert found.integer("a", default=5) == 5
    assert found.boolean("a", default=True) is True
    assert found.optional_integer("a") is None
    assert found.optional_object("a") is None
    assert found.objects("a") == []
    assert found.integers("a") == ()


def test_absent_keys_need_a_default() -> None:
    for read in (fields().text, fields().integer, fields().boolean, fields().object):
        with pytest.raises(ManifestUnreadable, match=r"T\.manifest: key is missing"):
            read("key")
    assert fields().optional_integer("key") is None


def test_bounds_are_inclusive() -> None:
    assert fields(n=0).integer("n") == 0
    assert fields(n=MAX_INTEGER).integer("n") == MAX_INTEGER
    assert fields(n=3).integer("n", minimum=3, maximum=3) == 3
    assert fields(n=-5).integer("n", minimum=-5) == -5
    assert fields(n=-5).optional_integer("n", minimum=-5) == -5
    assert fields(n=[0, MAX_INTEGER]).integers("n") == (0, MAX_INTEGER)


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda: fields(k=1).text("k"), "k is 1, expected text"),
        (lambda: fields(k="1").integer("k"), "k is '1', expected an integer"),
        (lambda: fields(k=True).integer("k"), "k is True, expected an integer"),
        (lambda: fields(k=1.0).integer("k"), "k is 1.0, expected an integer"),
        (lambda: fields(k=-1).integer("k"), "k is -1, expected between 0 and"),
        (lambda: fields(k=2**64).integer("k"), "expected between 0 and"),
        (lambda: fields(k=4).integer("k", maximum=3), "k is 4, expected between 0 and 3"),
        (lambda: fields(k=-1).optional_integer("k"), "k is -1, expected between"),
        (lambda: fields(k=1).boolean("k"), "k is 1, expected true or false"),
        (lambda: fields(k=[]).object("k"), "expected an object"),
        (lambda: fields(k=[]).optional_object("k"), "expected an object"),
        (lambda: fields(k={}).objects("k"), "expected a list"),
        (lambda: fields(k=[{}, 1]).objects("k"), r"k\[1\] is 1, expected an object"),
        (lambda: fields(k="1").integers("k"), "expected a list"),
        (lambda: fields(k=[True]).integers("k"), "expected a list of non-negative integers"),
        (lambda: fields(k=[-1]).integers("k"), "expected a list of non-negative integers"),
        (lambda: fields(k=[2**64]).integers("k"), "expected a list of non-negative integers"),
    ],
)
def test_another_type_or_range_is_refused(read: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ManifestUnreadable, match=complaint):
        read()


def test_the_path_of_what_is_wrong_is_named_at_any_depth() -> None:
    top = fields(files=[{}, {"details": {"points": "x"}}])
    with pytest.raises(ManifestUnreadable, match=r"T\.manifest: files\[1\]: details: points is"):
        top.objects("files")[1].object("details").integer("points")


def test_a_long_or_strange_value_is_cut_and_escaped() -> None:
    with pytest.raises(ManifestUnreadable) as refused:
        fields(k="\n" + "x" * 500).integer("k")
    assert "\n" not in refused.value.what
    assert len(refused.value.what) < 120
