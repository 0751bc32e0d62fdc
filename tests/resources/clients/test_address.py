from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.clients.address import HostPort, split_host_port
from resources.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost", "localhost", 8088),
        ("localhost:1", "localhost", 1),
        ("data-2.example:65535", "data-2.example", 65535),
        ("10.0.0.1:8089", "10.0.0.1", 8089),
        ("[::1]", "::1", 8088),
        ("[::1]:8089", "::1", 8089),
        ("::1", "::1", 8088),
        ("fe80::1%eth0", "fe80::1%eth0", 8088),
        ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
        ("bücher.example:9", "bücher.example", 9),
    ],
)
def test_addresses_are_split(text: str, host: str, port: int) -> None:
    assert split_host_port(text, 8088) == (host, port)


def test_an_address_prints_as_it_is_typed() -> None:
    assert str(HostPort("h", 1)) == "h:1"
    assert str(HostPort("::1", 1)) == "[::1]:1"
    assert split_host_port(str(HostPort("::1", 1)), 2) == ("::1", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8088",
        "h:",
        "h:0",
        "h:65536",
        "h:-1",
        "h:+1",
        "h:1x",
        "h:٣",
        "h: 1",
        "h\n:1",
        "[::1",
        "[::1]8088",
        "[::1]x:1",
        "[host]:1",
        "[]:1",
        "a b",
        "h/x",
        "h?x",
        "a..b",
        "h" * 300,
    ],
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not an address") as caught:
        split_host_port(text, 8088)
    assert caught.value.hint
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["http://u:s3cr3t@h:1", "u:s3cr3t@h", "//u:s3cr3t@h"])
def test_a_url_is_refused_without_repeating_its_password(text: str) -> None:
    with pytest.raises(UsageError, match="host:port, not a URL") as caught:
        split_host_port(text, 8088)
    assert "s3cr3t" not in str(caught.value) + caught.value.hint


@given(st.text(max_size=30))
def test_only_usage_errors_escape(text: str) -> None:
    with contextlib.suppress(UsageError):
        host, port = split_host_port(text, 8088)
        assert host
        assert 0 < port < 65536
