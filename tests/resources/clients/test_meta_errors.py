"""Meta nodes that are away, refuse or answer oddly, and what no error tells."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable

import pytest

from resources.clients.auth import Auth
from resources.clients.meta import MetaClient
from resources.errors import (
    BadReply,
    CredentialsRefused,
    ExitCode,
    PeerRefused,
    PeerUnreachable,
    ShardkeeperError,
    UsageError,
)
from resources.protocol.commands import Response
from resources.protocol.meta_api import encode_error
from tests.resources.clients.meta_script import (
    DROP,
    LEADS,
    SECRET,
    all_asks,
    always,
    client,
    http,
    meta_node,
    redirect,
)
from tests.resources.clients.peer import closed_port


@all_asks
def test_a_closed_port_is_named(ask: Callable[[MetaClient], object]) -> None:
    address = closed_port()
    with pytest.raises(PeerUnreachable, match=address):
        ask(client(address))


@all_asks
def test_a_cluster_without_a_leader_is_asked_again_later(
    ask: Callable[[MetaClient], object],
) -> None:
    no_leader = http(503, encode_error("no leader"))
    with (
        meta_node(always(no_leader)) as address,
        pytest.raises(PeerUnreachable, match="no leader") as caught,
    ):
        ask(client(address))
    assert caught.value.retryable


@pytest.mark.fault(79)
@all_asks
@pytest.mark.parametrize(
    ("auth", "hint"),
    [
        (Auth.none(), "want credentials"),
        (Auth.basic("u", SECRET), "check user and password"),
        (Auth.jwt(SECRET), "internal-shared-secret"),
        (Auth.jwt(SECRET, "u"), "meta nodes' shared-secret"),
    ],
)
def test_refused_credentials_say_which_ones_to_check(
    ask: Callable[[MetaClient], object], auth: Auth, hint: str
) -> None:
    reply = http(401, encode_error(f"authorization failed for {SECRET}\x1b[2J"))
    with meta_node(always(reply)) as address, pytest.raises(CredentialsRefused) as caught:
        ask(client(address, auth))
    assert caught.value.exit_code is ExitCode.CREDENTIALS
    assert hint in caught.value.hint
    assert caught.value.what.isprintable()


@all_asks
@pytest.mark.parametrize(
    "reply",
    [
        http(200, b"[]" * 9),
        http(200, b'{"nodeType":"data"}'),
        http(200, b"\xff" * 30),
        http(404, b"404 page not found\n"),
        http(400, encode_error("must create admin user first")),
        http(400, b"Client sent an HTTP request to an HTTPS server.\n"),
        http(204),
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
    ids=lambda reply: repr(reply[:20] + reply[-20:]),
)
def test_odd_answers_are_errors_of_ours_with_the_address(
    ask: Callable[[MetaClient], object], reply: bytes
) -> None:
    with meta_node(always(reply)) as address, pytest.raises(ShardkeeperError) as caught:
        ask(client(address))
    assert address in caught.value.what


def test_a_shard_whose_owner_is_unknown_makes_the_list_fail_with_a_hint() -> None:
    reply = http(500, b"Internal Server Error\n")
    with meta_node(always(reply)) as address, pytest.raises(PeerRefused) as caught:
        client(address).shards()
    assert "not a data node" in caught.value.hint


def test_a_reply_without_an_end_is_given_up() -> None:
    flood = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2**20 + 1)
    with meta_node(always(flood)) as address, pytest.raises(BadReply, match="is longer than"):
        client(address).leader()


@pytest.mark.fault(82)
def test_secrets_are_in_no_repr_and_no_error() -> None:
    for auth in (Auth.basic("u", SECRET), Auth.jwt(SECRET, "u")):
        shown = [repr(auth), repr(client("h:1", auth))]
        for reply in (
            http(500, encode_error(f"you said {SECRET}")),
            http(200, Response(error=f"you said {SECRET}").encode()),
            redirect(f"{SECRET}@x"),
            b"",
        ):
            with meta_node(always(reply)) as address:
                try:
                    client(address, auth).execute(DROP)
                except ShardkeeperError as error:
                    shown += [error.hint, *traceback.format_exception(error)]
        assert len(shown) > 8
        assert not [text for text in shown if SECRET in text or "Bearer" in text]


def test_a_password_goes_out_as_utf_8() -> None:
    heard: list[str] = []

    def note(_what: str, who: str, _body: bytes) -> bytes:
        heard.append(who)
        return LEADS

    with meta_node(note) as address:
        client(address, Auth.basic("ü", SECRET)).leader()
        client(address).leader()
    assert heard == ["Basic " + base64.b64encode(f"ü:{SECRET}".encode()).decode(), ""]


@pytest.mark.fault(79)
def test_credentials_that_cannot_work_are_refused_at_once() -> None:
    for make in (lambda: Auth.basic("", "p"), lambda: Auth.basic("a:b", "p"), lambda: Auth.jwt("")):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(UsageError):
        MetaClient("h", skip_verify=True, ca_file="x")
