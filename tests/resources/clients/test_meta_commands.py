"""Commands to meta nodes: they reach the leader once, or it is told what is known."""

from __future__ import annotations

import pytest

from resources.clients.auth import Auth
from resources.clients.meta import MAX_HOPS, MetaClient
from resources.errors import (
    BadReply,
    CredentialsRefused,
    PeerRefused,
    PeerUnreachable,
    UnknownOutcome,
    UnsafeName,
)
from resources.protocol.commands import CreateDatabase, Response
from resources.protocol.jwt import verified_user
from resources.protocol.meta_api import encode_error
from tests.resources.clients.meta_script import (
    APPLIED,
    DROP,
    SECRET,
    always,
    client,
    http,
    meta_node,
    redirect,
)
from tests.resources.clients.peer import closed_port


def test_a_command_follows_the_leader_with_its_body_and_a_new_token() -> None:
    heard: list[tuple[str, str, bytes]] = []
    now = iter([1_700_000_000.0, 1_700_000_007.0])

    def leader(what: str, who: str, body: bytes) -> bytes:
        heard.append((what, who, body))
        return http(200, APPLIED)

    with meta_node(leader) as leads:

        def follower(what: str, who: str, body: bytes) -> bytes:
            heard.append((what, who, body))
            return redirect(leads)

        with meta_node(follower) as follows:
            meta = MetaClient(follows, auth=Auth.jwt("internal"), clock=lambda: next(now))
            assert meta.execute(DROP) == 11
    assert [(what, body) for what, _, body in heard] == [("POST /execute", DROP.encode())] * 2
    for (_, who, _), at in zip(heard, (1_700_000_000, 1_700_000_007), strict=True):
        kind, token = who.split()
        assert kind == "Bearer"
        assert verified_user(token, lambda _: "internal", at + 299) == ""
        with pytest.raises(CredentialsRefused):
            verified_user(token, lambda _: "internal", at + 300)


def test_a_redirect_that_never_ends_is_given_up() -> None:
    n_heard = 0

    def answer(_what: str, _who: str, _body: bytes) -> bytes:
        nonlocal n_heard
        n_heard += 1
        return redirect(address)

    with meta_node(answer) as address, pytest.raises(PeerUnreachable, match="redirected more"):
        client(address).execute(DROP)
    assert n_heard == MAX_HOPS + 1


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    "reply",
    [
        redirect("h:1", path="/elsewhere"),
        redirect("h:1", scheme="https"),
        redirect("h:1", scheme="gopher"),
        redirect("user@h:1"),
        redirect(""),
        redirect("[::1"),
        http(307),
        http(302, b"", "Location: http://h:1/execute"),
    ],
)
def test_credentials_are_taken_to_no_odd_place(reply: bytes) -> None:
    with meta_node(always(reply)) as address, pytest.raises(BadReply):
        client(address, Auth.basic("u", SECRET)).execute(DROP)


def test_a_rejected_command_says_why() -> None:
    reply = http(200, Response(error="database name required").encode())
    with meta_node(always(reply)) as address, pytest.raises(PeerRefused) as caught:
        client(address).execute(DROP)
    assert caught.value.what == f"{address}: database name required"
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "reply",
    [
        http(200, Response(error="leadership lost while committing log").encode()),
        http(200, Response(error="raft is already shutdown").encode()),
        http(200, b"\x08"),
        http(200, b""),
        http(500, b"Internal Server Error\n"),
        http(502, b"Bad Gateway"),
        http(503, b"<html>a proxy's</html>"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x08",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(2**20 + 1),
        b"",
    ],
    ids=lambda reply: repr(reply[:60] + reply[-20:]),
)
def test_a_command_without_a_clear_answer_may_have_been_applied(reply: bytes) -> None:
    with (
        meta_node(always(reply)) as address,
        pytest.raises(UnknownOutcome, match="is not known") as caught,
    ):
        client(address).execute(DROP)
    assert address in caught.value.what
    assert "before trying again" in caught.value.hint
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "reply",
    [
        http(503, encode_error("no leader")),
        http(503, encode_error("server closed")),
        http(200, Response(error="node is not the leader").encode()),
        http(200, Response(error="leadership transfer in progress").encode()),
    ],
)
def test_a_command_that_was_not_taken_may_be_tried_again(reply: bytes) -> None:
    with meta_node(always(reply)) as address, pytest.raises(PeerUnreachable) as caught:
        client(address).execute(DROP)
    assert caught.value.retryable


def test_a_command_to_a_closed_port_was_not_sent() -> None:
    with pytest.raises(PeerUnreachable, match="no HTTP connection"):
        client(closed_port()).execute(DROP)


def test_a_command_that_would_do_harm_is_not_sent() -> None:
    with meta_node(always(b"")) as address, pytest.raises(UnsafeName):
        client(address).execute(CreateDatabase("../x"))
