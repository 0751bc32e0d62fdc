"""Questions to meta nodes: members, shards, leases, and the leader's metastore."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.clients.meta import MetaClient
from resources.errors import BadReply, PeerUnreachable, UsageError
from resources.model import NodeID
from resources.protocol.meta_api import Lease, encode_error
from tests.resources.clients.meta_script import (
    ASKS,
    LEADS,
    always,
    client,
    http,
    led_by,
    meta_node,
    redirect,
)
from tests.resources.clients.peer import closed_port
from tests.resources.protocol.vectors import CLUSTER_METASTORE

RECORDED = Path(__file__).parents[2] / "fixtures" / "wire" / "cluster"


def test_recorded_answers_of_a_cluster_are_read() -> None:
    for name, ask in (
        ("show-cluster.http", MetaClient.members),
        ("show-shards-null.http", MetaClient.shards),
        ("show-shards-verbose.http", lambda meta: meta.shards(verbose=True)),
        ("lease.http", ASKS["lease"]),
        ("lease-held.http", lambda meta: meta.lease("shardkeeper", NodeID(8))),
        ("execute.http", ASKS["execute"]),
    ):
        with meta_node(always((RECORDED / name).read_bytes())) as address:
            ask(client(address))


def test_the_metastore_is_the_leaders_whichever_node_is_asked() -> None:
    asked: list[str] = []

    def leader(what: str, _who: str, _body: bytes) -> bytes:
        asked.append(what)
        return LEADS if "lease" in what else http(200, CLUSTER_METASTORE)

    with meta_node(leader) as leads:

        def follower(what: str, _who: str, _body: bytes) -> bytes:
            assert "lease" in what
            return led_by(leads)

        with meta_node(follower) as follows:
            assert client(follows).snapshot() == CLUSTER_METASTORE
            assert str(client(follows).leader()) == leads
    assert "GET /?index=0" in asked


def test_verbose_is_only_reported_when_it_is_wanted() -> None:
    asked: list[str] = []

    def note(what: str, _who: str, _body: bytes) -> bytes:
        asked.append(what)
        return http(200, b"null\n")

    with meta_node(note) as address:
        client(address).shards()
        client(address).shards(verbose=True)
    assert asked == ["GET /show-shards", "GET /show-shards?verbose=true"]


def test_meta_nodes_that_do_not_agree_on_a_leader_are_asked_again_later() -> None:
    with (
        meta_node(lambda _what, _who, _body: led_by(address)) as address,
        pytest.raises(PeerUnreachable, match="name different leaders"),
    ):
        client(address).leader()


def test_a_leader_without_an_address_is_an_odd_answer() -> None:
    odd = redirect("", "/lease")
    with meta_node(always(odd)) as address, pytest.raises(BadReply, match="without an address"):
        client(address).snapshot()


def test_a_leader_that_the_metastore_does_not_name_is_known_by_raft() -> None:
    def answer(what: str, _who: str, _body: bytes) -> bytes:
        if "lease" in what:
            return http(503, encode_error("no leader"))
        return http(200, b"127.0.0.1:8089") if "ping" in what else http(200, CLUSTER_METASTORE)

    with meta_node(answer) as address:
        assert str(client(address).leader()) == address


def test_a_snapshot_that_is_not_whole_is_refused() -> None:
    def answer(what: str, _who: str, _body: bytes) -> bytes:
        return LEADS if "lease" in what else http(200, CLUSTER_METASTORE[:-1])

    with meta_node(answer) as address, pytest.raises(BadReply, match="metastore"):
        client(address).snapshot()


def test_a_lease_that_another_holds_is_an_answer_and_no_error() -> None:
    held = Lease("n", 1, NodeID(8))
    with meta_node(always(http(409, held.encode()))) as address:
        assert client(address).lease("n", NodeID(7)) == held


@pytest.mark.parametrize(
    ("status_", "lease"),
    [
        (200, Lease("n", 1, NodeID(8))),
        (409, Lease("n", 1, NodeID(7))),
        (200, Lease("other", 1, NodeID(7))),
    ],
)
def test_a_lease_that_contradicts_itself_is_refused(status_: int, lease: Lease) -> None:
    with (
        meta_node(always(http(status_, lease.encode()))) as address,
        pytest.raises(BadReply, match="contradicts itself"),
    ):
        client(address).lease("n", NodeID(7))


def test_a_lease_without_a_name_is_not_asked_for() -> None:
    with pytest.raises(UsageError):
        client(closed_port()).lease("", NodeID(7))


@pytest.mark.parametrize(
    ("reply", "is_meta"),
    [
        (http(200, b"r:1"), True),
        (http(200), True),
        (http(401, encode_error("unable to parse authentication credentials")), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n" + b'{"nodeType":"data"}', False),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_a_meta_node_is_reported_from_others_without_credentials(
    reply: bytes, is_meta: bool
) -> None:
    with meta_node(always(reply)) as address:
        assert client(address).is_meta_node() is is_meta
