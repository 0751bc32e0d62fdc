"""Addresses and credentials of the HTTP client: whence they come, and that no error tells them."""

from __future__ import annotations

import socket
import traceback

import pytest

from resources.clients.http import InfluxHTTP
from resources.errors import PeerUnreachable, ShardkeeperError, UsageError
from tests.resources.clients.http_peer import CANARY, Ask, every_ask, reply
from tests.resources.clients.peer import answers, closed_port, peer


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("h", "http://h:8086"),
        ("h:1", "http://h:1"),
        ("[::1]:1", "http://[::1]:1"),
        ("http://h", "http://h:8086"),
        ("https://h:443/influx/", "https://h:443/influx"),
        ("https://u:p@[::1]:1", "https://[::1]:1"),
    ],
)
def test_addresses_become_urls_without_credentials(address: str, url: str) -> None:
    assert InfluxHTTP(address).base_url == url


@pytest.mark.parametrize(
    "address",
    [
        "ftp://u:s3cr3t@h",
        "http://u:s3cr3t@h:x",
        "http://u:s3cr3t@",
        "http://u:s3cr3t@h?q=1",
        "http://u:s3cr3t@[::1",
        "u:s3cr3t@h",
        "http://u:s3cr3t@h@i j",
        "",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        InfluxHTTP(address)
    assert "s3cr3t" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.fault(79)
def test_credentials_come_from_one_place() -> None:
    with pytest.raises(UsageError, match="twice"):
        InfluxHTTP("http://u:p@h", user="v")


def test_credentials_of_the_url_are_used() -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(reply(X_Influxdb_Version="1"))

    with peer(listen) as addr:
        InfluxHTTP(f"http://u%40x:p%2Fq@{addr}").ping()
    assert b"Authorization: Basic dUB4OnAvcQ==" in heard[0]  # u@x:p/q


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{closed_port()}")
    with peer(answers(reply(X_Influxdb_Version="1"))) as addr:
        assert InfluxHTTP(addr).ping().version == "1"


@pytest.mark.fault(82)
@every_ask
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x15\x03\x01\x00\x02\x02\x46",
        reply({"error": CANARY}, status="400 Bad Request"),
        reply({"error": [CANARY]}, status="401 Unauthorized"),
        reply({"error": CANARY}),
        reply({"results": [{"error": f"near {CANARY}"}]}),
        reply(status="301 Moved", Location="http://u:s3cr3t@h/"),
    ],
    ids=range(7),
)
def test_no_error_has_the_password_in_it(ask: Ask, answer: bytes) -> None:
    with peer(answers(answer)) as addr:
        client = InfluxHTTP(addr, user="u", password=CANARY)
        assert "s3cr3t" not in repr(client) + client.base_url
        with pytest.raises(ShardkeeperError) as caught:
            ask(client)
    events = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "s3cr3t" not in events


@pytest.mark.fault(80)
def test_https_is_spoken_when_asked_for_and_plain_http_is_not_taken_for_it() -> None:
    plain = answers(reply(X_Influxdb_Version="1"))
    with peer(plain) as addr, pytest.raises(PeerUnreachable, match="TLS failed"):
        InfluxHTTP(f"https://{addr}").ping()
