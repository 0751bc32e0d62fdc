"""Replies of /query: what a real server sends is read, and any other JSON is refused politely."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from resources.errors import BadReply
from resources.protocol.query_results import Series, query_results
from resources.protocol.reply_fields import ErrorInstead

# A real server's answer to a SELECT with `chunked`, cut into two pieces.
FIRST = (
    b'{"results":[{"statement_id":0,"series":[{"name":"m","tags":{"k":"a"},"columns":["time","v"],'
    b'"values":[[1,1.5],[2,null]],"partial":true}],"partial":true}]}'
)
LAST = (
    b'{"results":[{"statement_id":0,"series":[{"name":"m","tags":{"k":"a"},"columns":["time","v"],'
    b'"values":[[9007199254740993,2]]}]}]}'
)


def test_a_piece_says_whether_another_one_follows() -> None:
    first, last = (query_results(raw, in_pieces=True) for raw in (FIRST, LAST))
    assert (first.more, last.more) == (True, False)
    assert [*first.series, *last.series] == [
        Series("m", {"k": "a"}, ("time", "v"), ((1, 1.5), (2, None))),
        Series("m", {"k": "a"}, ("time", "v"), ((9007199254740993, 2),)),
    ]


@pytest.mark.parametrize("mark", [b',"partial":true}],', b',"partial":true}]}'])
def test_a_piece_where_the_whole_was_asked_for_misses_rows(mark: bytes) -> None:
    """Either mark says so: that of the series, and that of its result."""
    assert mark in FIRST
    with pytest.raises(BadReply, match="cut off") as caught:
        query_results(FIRST.replace(mark, mark.replace(b',"partial":true', b"")))
    assert "max-row-limit" in caught.value.hint


@pytest.mark.parametrize("cut", range(len(LAST)))
def test_a_reply_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(BadReply):
        query_results(LAST[:cut])


def test_the_error_of_one_statement_counts_for_all() -> None:
    with pytest.raises(ErrorInstead) as caught:
        query_results(b'{"results":[{"statement_id":0},{"statement_id":1,"error":"no such"}]}')
    assert caught.value.message == "no such"


OTHERS: tuple[object, ...] = (None, True, 7, 1.5, "x", [], [7], ["x"], [[]], {}, {"k": 7})
SERIES = ("results", 0, "series", 0)
PLACES = [
    *(SERIES[:n] for n in range(1, len(SERIES) + 1)),
    *((*SERIES, name) for name in ("name", "tags", "columns", "values", "partial")),
    (*SERIES, "values", 0),
]


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_whatever_stands_anywhere_in_a_reply_is_read_or_refused(
    place: tuple[str | int, ...], in_pieces: bool
) -> None:
    for other in OTHERS:
        reply = json.loads(LAST)
        inside = reply
        for step in place[:-1]:
            inside = inside[step]
        inside[place[-1]] = other
        with suppress(BadReply):
            piece = query_results(json.dumps(reply).encode(), in_pieces=in_pieces)
            assert all(len(row) == len(one.columns) for one in piece.series for row in one.values)
