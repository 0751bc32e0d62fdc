"""-map: connections go elsewhere, and everything else keeps the address that is advertised."""

from __future__ import annotations

import socket

import pytest

from resources.clients.address import NO_MAP, AddressMap, HostPort
from resources.clients.http import InfluxHTTP
from resources.clients.meta import MetaClient
from resources.clients.snapshotter import SnapshotterClient
from resources.errors import PeerUnreachable, UsageError
from tests.resources.clients.http_peer import reply
from tests.resources.clients.peer import answers, closed_port, peer
from tests.resources.protocol.vectors import METASTORE, METASTORE_REPLY


@pytest.mark.parametrize(
    ("entry", "advertised", "reached"),
    [
        ("data-1:8088=localhost:18088", HostPort("data-1", 8088), "localhost:18088"),
        ("data-1:8088=localhost:18088", HostPort("data-1", 8086), "data-1:8086"),
        ("data-1=10.0.0.5", HostPort("data-1", 8086), "10.0.0.5:8086"),
        ("data-1:8088=10.0.0.5", HostPort("data-1", 8088), "10.0.0.5:8088"),
        ("DATA-1.=10.0.0.5", HostPort("data-1", 1), "10.0.0.5:1"),
        ("data-1=10.0.0.5", HostPort("Data-1", 1), "10.0.0.5:1"),
        ("[::1]:8088=[fe80::1%eth0]:9", HostPort("0:0::1", 8088), "[fe80::1%eth0]:9"),
        ("[2001:db8::5]=[::1]", HostPort("2001:DB8:0::5", 8086), "[::1]:8086"),
        ("2001:db8::5=::1", HostPort("2001:db8::5", 8086), "[::1]:8086"),
    ],
)
def test_an_address_leads_where_its_entry_says(
    entry: str, advertised: HostPort, reached: str
) -> None:
    assert str(AddressMap.parse([entry]).reach(advertised)) == reached


def test_an_address_with_its_port_comes_before_one_for_all_ports() -> None:
    route = AddressMap.parse(["a=b", "a:1=c:2"])
    assert str(route.reach(HostPort("a", 1))) == "c:2"
    assert str(route.reach(HostPort("a", 3))) == "b:3"


@pytest.mark.parametrize(
    "entries",
    [
        ["a"],
        ["a=b=c"],
        ["=b"],
        ["a="],
        ["a=b:1"],
        ["a:0=b:1"],
        ["a:x=b:1"],
        ["http://a=b"],
        ["a:1=b:1", "a:1=c:1"],
    ],
    ids=str,
)
def test_an_entry_that_means_nothing_is_refused(entries: list[str]) -> None:
    with pytest.raises(UsageError):
        AddressMap.parse(entries)


def test_without_entries_nothing_is_mapped() -> None:
    assert not NO_MAP
    assert NO_MAP.reach(HostPort("a", 1)) == HostPort("a", 1)


def test_the_tcp_port_is_reached_by_the_map_and_errors_name_both() -> None:
    with peer(answers(METASTORE_REPLY)) as address:
        route = AddressMap.parse([f"data-1.invalid:8088={address}"])
        assert SnapshotterClient("data-1.invalid", route=route).metastore() == METASTORE
    with pytest.raises(PeerUnreachable) as caught:
        SnapshotterClient("data-1.invalid", route=route).metastore()
    assert caught.value.what.startswith(f"data-1.invalid:8088 (at {address}): connection refused")


def test_http_is_reached_by_the_map_and_host_names_who_was_meant() -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(reply(X_Influxdb_Version="1.8.10"))

    with peer(listen) as address:
        route = AddressMap.parse([f"data-1.invalid:8086={address}"])
        assert InfluxHTTP("data-1.invalid", route=route).ping().version == "1.8.10"
    assert b"Host: data-1.invalid:8086" in heard[-1]


def test_a_redirect_to_the_leader_goes_by_the_map() -> None:
    leader = b'{"nodeType":"meta"}'
    raft = reply({"name": "n", "expiration": "2026-01-01T00:00:00Z", "owner": 7})
    assert leader

    def redirect(connection: socket.socket) -> None:
        connection.recv(65536)
        location = "http://meta-2.invalid:8091/lease?name=n&nodeid=7"
        connection.sendall(reply(status="307 Temporary Redirect", Location=location))

    with peer(redirect) as here, peer(answers(raft)) as there:
        route = AddressMap.parse([f"meta-2.invalid:8091={there}"])
        assert MetaClient(here, route=route).lease("n", 7).owner == 7  # type: ignore[arg-type]
        with pytest.raises(PeerUnreachable) as caught:
            MetaClient(here, timeout_s=5).lease("n", 7)  # type: ignore[arg-type]
    assert "unknown host" in caught.value.what
    assert "-map" in caught.value.hint


def test_a_name_that_only_the_cluster_knows_is_reported_with_the_map() -> None:
    for ask in (
        lambda: SnapshotterClient("data-1.invalid").metastore(),
        lambda: InfluxHTTP("data-1.invalid").ping(),
        lambda: InfluxHTTP("http://data-1.invalid").ping(),
    ):
        with pytest.raises(PeerUnreachable, match="unknown host") as caught:
            ask()
        assert "-map" in caught.value.hint
    assert closed_port()
