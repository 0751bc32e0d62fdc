"""Values are taken out of a reply by key and kind, and everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resources.errors import BadReply
from resources.protocol.reply_fields import ReplyFields, each_field

REPLY = ReplyFields.of(
    b'{"name": "a", "n": 7, "none": null, "flag": true, "half": 1.5, "names": ["a", "b"],'
    b' "mixed": ["a", 1], "at": "2026-11-22T09:51:00Z", "never": "0001-01-01T00:00:00Z",'
    b' "items": [{"id": 1}, {"id": 2}], "list": [1]}',
    "its reply",
)


def item_id(item: ReplyFields) -> int:
    return item.uint("id")


def test_values_come_out_as_they_are() -> None:
    assert REPLY.text("name") == "a"
    assert REPLY.uint("n") == 7
    assert REPLY.texts("names") == ("a", "b")
    assert REPLY.time("at") == 1_795_341_060 * 10**9
    assert REPLY.time("never") is None
    assert REPLY.each("items", item_id) == (1, 2)


def test_null_is_an_empty_list_as_go_writes_it() -> None:
    assert REPLY.texts("none") == ()
    assert REPLY.each("none", item_id) == ()
    assert each_field(None, "x", item_id) == ()


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda: REPLY.text("missing"), "its reply lacks missing"),
        (lambda: REPLY.text("n"), "n is not a string"),
        (lambda: REPLY.text("none"), "none is not a string"),
        (lambda: REPLY.texts("name"), "name is not an array of strings"),
        (lambda: REPLY.texts("mixed"), "mixed is not an array of strings"),
        (lambda: REPLY.uint("flag"), "flag is not an integer of 0 to"),
        (lambda: REPLY.uint("half"), "half is not an integer"),
        (lambda: REPLY.uint("n", limit=6), "n is not an integer of 0 to 6"),
        (lambda: REPLY.time("name"), "its reply: at"),
        (lambda: REPLY.each("name", item_id), "its reply: name is not an array"),
        (lambda: REPLY.each("list", item_id), "its reply: list holds something that is not an"),
        (lambda: ReplyFields.of(b"[]", "its reply"), "its reply holds something that is not an"),
        (lambda: ReplyFields.of(b"{", "its reply"), "its reply is not JSON"),
        (lambda: ReplyFields.of(b'{"a":1,"a":2}', "its reply"), "a key occurs twice"),
    ],
)
def test_another_kind_is_refused_with_the_key(read: Callable[[], object], complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint.replace("its reply: at", "its reply: name")):
        read()


def test_limits_are_inclusive_and_negative_numbers_are_none() -> None:
    assert ReplyFields.of(b'{"n": 0}', "r").uint("n") == 0
    assert ReplyFields.of(b'{"n": 6}', "r").uint("n", limit=6) == 6
    with pytest.raises(BadReply):
        ReplyFields.of(b'{"n": -1}', "r").uint("n")
    with pytest.raises(BadReply):
        ReplyFields.of(b'{"n": 18446744073709551616}', "r").uint("n")
