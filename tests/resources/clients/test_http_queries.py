"""Queries: what is sent, and results whole, in pieces and cut short."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from resources.clients.http import InfluxHTTP
from resources.errors import BadReply, PeerRefused, PeerUnreachable, ShardkeeperError
from resources.protocol.query_results import Series
from tests.resources.clients.http_peer import reply
from tests.resources.clients.peer import answers, peer


def test_a_query_is_posted_with_its_text_in_the_body() -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        while not heard[0].endswith(b"%22a+b%22"):
            heard[0] += connection.recv(65536)
        connection.sendall(reply({"results": [{}]}))

    with peer(listen) as addr:
        assert (
            InfluxHTTP(f"http://{addr}", user="ü", password="p").query('DROP "a b"', db="d&b") == []
        )
    head, body = heard[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /query?epoch=ns&db=d%26b HTTP/1.1\r\n")
    assert b"Authorization: Basic w7w6cA==" in head  # UTF-8
    assert body == b"q=DROP+%22a+b%22"


def test_series_of_all_results_come_in_order() -> None:
    body: dict[str, Any] = {
        "results": [
            {"statement_id": 0, "series": [{"name": "m", "columns": ["time"], "values": [[1]]}]},
            {"statement_id": 1},
            {
                "statement_id": 2,
                "series": [
                    {
                        "name": "n",
                        "tags": {"host": "a"},
                        "columns": ["time", "v"],
                        "values": [[9007199254740993, None], [2, 1.5]],
                    },
                    {"columns": ["x"]},
                ],
            },
        ]
    }
    with peer(answers(reply(body))) as addr:
        assert InfluxHTTP(addr).query("q") == [
            Series("m", {}, ("time",), ((1,),)),
            Series("n", {"host": "a"}, ("time", "v"), ((9007199254740993, None), (2, 1.5))),
            Series("", {}, ("x",), ()),
        ]


@pytest.mark.parametrize(
    ("body", "error", "what"),
    [
        ({"results": [{}, {"error": "no such"}]}, PeerRefused, "no such"),
        ({"error": "no such"}, PeerRefused, "no such"),
        ({"results": [{"partial": True}]}, BadReply, "the result was cut off"),
        ({"results": [{"series": [{"partial": True}]}]}, BadReply, "the result was cut off"),
        ({"results": 7}, BadReply, "unexpected reply: results is not an array"),
        ({"results": [7]}, BadReply, "unexpected reply: a result is not an object"),
        ({"results": [{"series": {}}]}, BadReply, "unexpected reply: series is not an array"),
        ({"results": [{"series": [1]}]}, BadReply, "unexpected reply: a series is not an object"),
        (
            {"results": [{"series": [{"columns": ["a"], "values": [[1, 2]]}]}]},
            BadReply,
            "unexpected reply: a series lacks its shape",
        ),
        ([], BadReply, "unexpected reply: it is not an object"),
        (b"{", BadReply, "its reply is not JSON: "),
        (b"[" * 100_000, BadReply, "its reply nests too deep"),
        (b'{"results":[{"series":NaN}]}', BadReply, "its reply is not JSON: NaN"),
    ],
)
def test_a_result_that_is_none_is_an_error(
    body: object, error: type[ShardkeeperError], what: str
) -> None:
    with peer(answers(reply(body))) as addr, pytest.raises(error) as caught:
        InfluxHTTP(addr).query("q")
    assert str(caught.value).startswith(f"{addr}: {what}")


def piece(*times: int, partial: bool) -> dict[str, Any]:
    rows = [[time, 1.5] for time in times]
    series = {"name": "m", "tags": {"k": "a"}, "columns": ["time", "v"], "values": rows}
    marks = {"partial": True} if partial else {}
    return {"results": [{"statement_id": 0, "series": [{**series, **marks}], **marks}]}


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def test_a_long_answer_comes_in_pieces_and_none_is_lost() -> None:
    body = lines(piece(1, 2, partial=True), piece(3, partial=False))
    for raw in (body, body.removesuffix(b"\n")):
        with peer(answers(reply(raw))) as addr:
            found = list(InfluxHTTP(addr).stream("SELECT * FROM m"))
        assert [series.values for series in found] == [((1, 1.5), (2, 1.5)), ((3, 1.5),)]
        assert {series.name for series in found} == {"m"}


def test_an_error_after_the_first_piece_is_raised_and_not_taken_for_the_end() -> None:
    body = lines(piece(1, partial=True), {"results": [{"error": "query-timeout limit exceeded"}]})
    with peer(answers(reply(body))) as addr:
        stream = InfluxHTTP(addr).stream("SELECT * FROM m")
        assert next(stream).values == ((1, 1.5),)
        with pytest.raises(PeerRefused, match="query-timeout limit exceeded"):
            next(stream)


def test_a_long_answer_that_is_cut_is_an_error_wherever_it_is_cut() -> None:
    body = lines(piece(1, partial=True), piece(2, partial=False))
    whole = reply(body)
    for cut in range(len(whole) - len(body) + 1, len(whole) - 1, 7):
        with peer(answers(whole[:cut])) as addr, pytest.raises((BadReply, PeerUnreachable)):
            list(InfluxHTTP(addr).stream("SELECT * FROM m"))


def test_a_long_answer_without_its_last_piece_is_an_error() -> None:
    for body in (b"", lines(piece(1, partial=True))):
        with peer(answers(reply(body))) as addr, pytest.raises(BadReply, match="last piece"):
            list(InfluxHTTP(addr).stream("SELECT * FROM m"))
