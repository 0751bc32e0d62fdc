"""The HTTP client against peers that answer oddly, late or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from resources.clients import http
from resources.clients.http import InfluxHTTP, Ping
from resources.errors import (
    BadReply,
    CredentialsRefused,
    PeerRefused,
    PeerSilent,
    PeerTooSlow,
    PeerUnreachable,
)
from tests.resources.clients.http_peer import CANARY, Ask, every_ask, reply
from tests.resources.clients.peer import answers, closed_port, peer, resets, silent


def test_a_ping_reports_version_build_and_the_time_it_is_not_ahead_of() -> None:
    full = reply(
        status="204 No Content",
        X_Influxdb_Version="v1.6.7~rc0",
        X_Influxdb_Build="OSS",
        Date="Sun, 09 Sep 2001 01:46:40 GMT",
    )
    with peer(answers(full)) as addr:
        assert InfluxHTTP(addr).ping() == Ping("1.6.7~rc0", "OSS", 999_999_999 * 10**9)
    with peer(answers(reply(X_Influxdb_Version="1.3.0"))) as addr:
        assert InfluxHTTP(addr).ping() == Ping("1.3.0", "", None)


@pytest.mark.parametrize(
    "odd", [reply(b"<html>"), reply(X_Influxdb_Version=""), reply(X_Influxdb_Version="9" * 101)]
)
def test_another_web_server_is_noticed(odd: bytes) -> None:
    with peer(answers(odd)) as addr, pytest.raises(BadReply) as caught:
        InfluxHTTP(addr).ping()
    assert str(caught.value) == f"{addr}: answers HTTP, but not as InfluxDB does"
    assert "8086" in caught.value.hint


@every_ask
def test_redirects_are_not_followed(ask: Ask) -> None:
    found: list[bytes] = []

    def elsewhere(connection: socket.socket) -> None:
        found.append(connection.recv(65536))

    with peer(elsewhere) as target:
        moved = reply(status="301 Moved", Location=f"http://{target}/")
        with (
            peer(answers(moved)) as addr,
            pytest.raises(BadReply, match=r"a redirect \(HTTP 301\)"),
        ):
            ask(InfluxHTTP(addr, user="u", password=CANARY))
    assert found == []


@pytest.mark.parametrize("location", ["http://[", "http://a:b:c/", "//", "\xff"])
@every_ask
def test_a_redirect_to_nowhere_is_a_redirect_too(ask: Ask, location: str) -> None:
    moved = reply(status="307 Moved", Location=location)
    with peer(answers(moved)) as addr, pytest.raises(BadReply, match="a redirect"):
        ask(InfluxHTTP(addr))


@pytest.mark.fault(79)
@every_ask
@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_refused_credentials_have_their_own_exit_status(ask: Ask, status: str) -> None:
    no = reply({"error": f"authorization failed for {CANARY}"}, status=status)
    with peer(answers(no)) as addr, pytest.raises(CredentialsRefused) as caught:
        ask(InfluxHTTP(addr, user="u", password=CANARY))
    assert caught.value.exit_code == 12
    assert caught.value.hint
    assert str(caught.value) == f"{addr}: authorization failed for *** (HTTP {status[:3]})"


@every_ask
def test_an_error_of_the_server_is_reported(ask: Ask) -> None:
    no = reply({"error": "timeout\x1b[31m\n"}, status="500 Internal Server Error")
    with peer(answers(no)) as addr, pytest.raises(PeerRefused) as caught:
        ask(InfluxHTTP(addr))
    assert str(caught.value) == f"{addr}: timeout\\x1b[31m\\n (HTTP 500)"


@every_ask
@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable"])
def test_a_proxy_without_its_server_may_be_tried_again(ask: Ask, status: str) -> None:
    busy = answers(reply(b"<html>", status=status))
    with peer(busy) as addr, pytest.raises(PeerUnreachable) as caught:
        ask(InfluxHTTP(addr))
    assert caught.value.retryable


@every_ask
def test_a_closed_port_is_named(ask: Ask) -> None:
    addr = closed_port()
    with pytest.raises(PeerUnreachable) as caught:
        ask(InfluxHTTP(addr))
    assert str(caught.value) == f"{addr}: no HTTP connection, or it broke"


@every_ask
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n", b"\x00"])
def test_what_is_no_http_is_unreachable(ask: Ask, answer: bytes) -> None:
    with peer(answers(answer)) as addr, pytest.raises((PeerUnreachable, BadReply)) as caught:
        ask(InfluxHTTP(addr))
    assert str(caught.value).startswith(f"{addr}: ")


@every_ask
def test_a_reset_is_unreachable(ask: Ask) -> None:
    with peer(resets) as addr, pytest.raises(PeerUnreachable):
        ask(InfluxHTTP(addr))


def test_a_reply_cut_short_is_unreachable() -> None:
    whole = reply({"results": [{"series": []}]})
    with peer(answers(whole[:-5])) as addr, pytest.raises(PeerUnreachable):
        InfluxHTTP(addr).query("q")


@every_ask
def test_silence_ends(ask: Ask) -> None:
    enough = threading.Event()

    def hold(_: socket.socket) -> None:
        enough.wait(20)

    with peer(hold) as addr:
        with pytest.raises(PeerUnreachable, match="does not answer in time"):
            ask(InfluxHTTP(addr, timeout_s=0.2))
        enough.set()


def trickle(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1\r\n \r\n")
        time.sleep(0.01)


def test_a_reply_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 2)
    with peer(trickle) as addr, pytest.raises(PeerUnreachable, match="never ends"):
        InfluxHTTP(addr, timeout_s=0.2, min_bytes_per_s=0).query("q")


@pytest.mark.fault(8)
@pytest.mark.parametrize("ask", [InfluxHTTP.server_vars, lambda api: list(api.stream("q"))])
def test_a_server_that_trickles_is_given_up(ask: Callable[[InfluxHTTP], object]) -> None:
    with peer(trickle) as addr, pytest.raises(PeerTooSlow, match=f"{addr}: only .* while answer"):
        ask(InfluxHTTP(addr, timeout_s=0.2))


@pytest.mark.fault(90)
def test_a_reply_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1000)
    long = answers(reply(b" " * 1001))
    with peer(long) as addr, pytest.raises(BadReply, match="is longer than 1000 bytes"):
        InfluxHTTP(addr).server_vars()


def test_silence_is_reported_from_a_refused_connection() -> None:
    with peer(silent) as addr, pytest.raises(PeerSilent):
        InfluxHTTP(addr, timeout_s=0.2).query("SELECT 1")
    with peer(resets) as addr, pytest.raises(PeerUnreachable) as caught:
        InfluxHTTP(addr).query("SELECT 1")
    assert not isinstance(caught.value, PeerSilent)
