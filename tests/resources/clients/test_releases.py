"""A release whose calls have other numbers is refused before the first of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.clients.address import AddressMap
from resources.clients.cluster import Cluster
from resources.clients.http import InfluxHTTP
from resources.clients.meta import MetaClient
from resources.clients.releases import VARIABLE, check_releases, is_known
from resources.embedded.cluster import EmbeddedCluster
from resources.errors import UnsupportedPeer
from tests.resources.clients.http_peer import reply
from tests.resources.clients.peer import answers, peer
from tests.tunnel import Tunnel


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1.8.10-c1.1.2", True),
        ("1.8.11-c1.2.0", True),
        ("1.8.11-c1.2.0~dirty", True),
        ("v1.8.11-c1.2.7", True),
        ("1.8.10-c1.1.1", False),
        ("1.8.10-c1.0.0", False),
        ("1.9.0-c1.3.0", False),
        ("1.11.5-c1.11.5", False),
        ("unknown", False),
        ("1.8.10", False),
        ("1.8.10-c1.2", False),
        ("1.8.10-c9999999.1.2", False),
        ("", False),
    ],
)
def test_a_release_is_known_by_its_number(version: str, known: bool) -> None:
    assert is_known(version) is known


def test_a_node_of_another_release_is_refused_and_one_that_does_not_say_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_releases([("a:8088", "1.8.11-c1.2.0"), ("b:8088", "")])
    with pytest.raises(
        UnsupportedPeer, match=r"b:8088 is of release '1\.8\.10-c1\.1\.1'"
    ) as caught:
        check_releases([("a:8088", "1.8.11-c1.2.0"), ("b:8088", "1.8.10-c1.1.1")])
    assert "c1.1.2" in caught.value.hint
    with pytest.raises(UnsupportedPeer):
        check_releases([("a:8088", "1.9.0-c1.3.0")])
    monkeypatch.setenv(VARIABLE, "1.9.0-c1.3.0")
    check_releases([("a:8088", "1.9.0-c1.3.0")])


def test_no_call_reaches_a_data_node_of_another_release(tmp_path: Path) -> None:
    """In c1.1.1 the number that removes a shard today deletes all of a node's data."""
    with (
        EmbeddedCluster(tmp_path, data_nodes=1) as embedded,
        Tunnel(embedded.data[0].tcp_addr) as tunnel,
    ):
        route = AddressMap.parse([f"{embedded.data[0].tcp_addr}={tunnel.address}"])
        meta = MetaClient(embedded.meta[0].http_addr)
        _, metastore = meta.metastore()
        embedded.group.release = "1.8.10-c1.1.1"
        cluster = Cluster(meta, route=route)
        with pytest.raises(UnsupportedPeer, match="nothing was sent"):
            cluster.inventory(metastore)
        with pytest.raises(UnsupportedPeer):
            cluster.coordinator(metastore.data_nodes[0].tcp_addr)
        assert tunnel.connections == 0
        # Gossip that did not reach the meta nodes yet does not open the way: the node is asked.
        embedded.group.release = ""
        assert not Cluster(meta, route=route).inventory(metastore).silent
        assert tunnel.connections == 1


def test_a_release_that_only_the_node_itself_reports_is_refused_too(tmp_path: Path) -> None:
    says = answers(reply(status="204 No Content", X_Influxdb_Version="1.8.10-c1.1.1"))
    with EmbeddedCluster(tmp_path, data_nodes=1) as embedded, peer(says) as address:
        meta = MetaClient(embedded.meta[0].http_addr)
        _, metastore = meta.metastore()
        embedded.group.release = ""
        cluster = Cluster(meta, http=lambda _: InfluxHTTP(f"http://{address}"))
        with pytest.raises(UnsupportedPeer, match="nothing was sent"):
            cluster.inventory(metastore)
