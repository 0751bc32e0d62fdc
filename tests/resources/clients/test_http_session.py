"""Sessions keep what complete replies leave open, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from resources.clients.address import split_host_port
from resources.clients.connection import StallLimit
from resources.clients.http_wire import HTTPFailure, HTTPRequest, HTTPSession
from resources.clients.tls import Trust
from tests.resources.clients.http_peer import reply
from tests.resources.clients.peer import closed_port, peer

WHOLE = reply(b"body", Date="x")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"


@contextmanager
def counting(answers: Callable[[int], bytes]) -> Iterator[tuple[str, list[bytes], list[int]]]:
    """A server that answers request after request; what it heard, and on which connection."""
    heard: list[bytes] = []
    on: list[int] = []
    connections: list[int] = []
    guard = threading.Lock()

    def serve(connection: socket.socket) -> None:
        with guard:
            connections.append(1)
            number = len(connections)
        while asked := connection.recv(65536):
            heard.append(asked)
            on.append(number)
            answer = answers(len(heard))
            connection.sendall(answer)
            if b"Connection: close" in answer or not answer:
                return

    with peer(serve) as address:
        yield address, heard, on


def ask(session: HTTPSession, address: str, **extra: object) -> bytes:
    to = split_host_port(address, 80)
    request = HTTPRequest("GET", "http", to, "/ping", timeout_s=5.0, **extra)  # type: ignore[arg-type]
    with session.open(request) as answer:
        return b"".join(answer.pieces(StallLimit(5.0)))


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, reply(status="204 No Content")])
def test_a_connection_is_used_again_after_a_whole_reply(answer: bytes) -> None:
    with counting(lambda _: answer) as (address, _, on):
        session = HTTPSession(Trust())
        body = b"body" if b"body" in answer else b""
        assert [ask(session, address) for _ in range(3)] == [body] * 3
        session.close()
    assert on == [1, 1, 1]


def test_a_reply_without_a_body_needs_no_reading() -> None:
    empty = reply(status="204 No Content")
    with counting(lambda _: empty) as (address, _, on):
        session = HTTPSession(Trust())
        request = HTTPRequest("GET", "http", split_host_port(address, 80), "/ping")
        for _ in range(2):
            with session.open(request) as answer:
                assert answer.status == 204
        session.close()
    assert on == [1, 1]


def test_a_body_that_is_not_read_takes_its_connection_with_it() -> None:
    with counting(lambda _: WHOLE) as (address, _, on):
        session = HTTPSession(Trust())
        with session.open(HTTPRequest("GET", "http", split_host_port(address, 80), "/")):
            pass
        assert ask(session, address) == b"body"
        session.close()
    assert on == [1, 2]


@pytest.mark.parametrize("closed", [b"Connection: close\r\n", b""])
def test_a_connection_that_the_server_closes_is_not_used_again(closed: bytes) -> None:
    """With a word before it, or without one, as after an idle time-out."""
    ended = threading.Event()
    answer = WHOLE.replace(b"Date: x\r\n", closed)

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        ended.set()

    with peer(serve) as address:
        session = HTTPSession(Trust())
        assert ask(session, address) == b"body"
        assert ended.wait(5)
        assert ask(session, address) == b"body"
        session.close()


@pytest.mark.parametrize("n_bytes", range(1, len(WHOLE)))
def test_a_reply_that_ends_early_is_no_reply(n_bytes: int) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(WHOLE[:n_bytes])

    with peer(serve) as address, pytest.raises(HTTPFailure) as caught:
        ask(HTTPSession(Trust()), address)
    head = WHOLE.index(b"\r\n\r\n") + 4
    assert caught.value.stage == ("answering" if n_bytes >= head else "asking")


@pytest.mark.parametrize("n_bytes", range(CHUNKED.index(b"4\r\n"), CHUNKED.index(b"0\r\n\r\n")))
def test_a_chunked_reply_that_ends_early_is_no_reply(n_bytes: int) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(CHUNKED[:n_bytes])

    with peer(serve) as address, pytest.raises(HTTPFailure):
        ask(HTTPSession(Trust()), address)


def test_a_request_has_what_it_was_given_and_no_more() -> None:
    with counting(lambda _: WHOLE) as (address, heard, _):
        session = HTTPSession(Trust())
        request = HTTPRequest(
            "POST",
            "http",
            split_host_port(address, 80),
            "/a b%2F\xfc/query",
            {"db": "a&b é", "epoch": "ns"},
            {"Authorization": "Basic x", "Accept-Encoding": "identity"},
            b"points",
        )
        with session.open(request) as answer:
            list(answer.pieces(StallLimit(5.0)))
        session.close()
        assert "Basic" not in repr(request)
    head, _, body = b"".join(heard).partition(b"\r\n\r\n")
    assert body in (b"points", b"")  # the server may read them one by one
    assert head.decode().split("\r\n") == [
        "POST /a%20b%2F%C3%BC/query?db=a%26b+%C3%A9&epoch=ns HTTP/1.1",
        f"Host: {address}",
        "Content-Length: 6",
        "Authorization: Basic x",
        "Accept-Encoding: identity",
    ]


def test_headers_of_one_name_are_one_value() -> None:
    twice = reply(b"", Date="x").replace(b"Date: x", b"X-one: a\r\nx-One: b")
    with counting(lambda _: twice) as (address, _, _):
        request = HTTPRequest("GET", "http", split_host_port(address, 80), "/")
        with HTTPSession(Trust()).open(request) as answer:
            assert answer.headers["X-One"] == "a, b"


def test_nothing_is_sent_where_nobody_listens() -> None:
    with pytest.raises(HTTPFailure) as caught:
        ask(HTTPSession(Trust()), closed_port())
    assert caught.value.stage == "connecting"
    assert isinstance(caught.value.cause, ConnectionRefusedError)
