"""CoordinatorClient against data nodes that answer from a script, well and badly."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.errors import (
    BadReply,
    PeerClosedEarly,
    PeerRefused,
    PeerUnreachable,
    ShardkeeperError,
    UnknownOutcome,
    UnsafeName,
)
from resources.model import NodeID, ShardID
from resources.protocol.coordinator import CodeReply, ErrReply, MessageType, ShardList
from resources.protocol.meta_api import OwnerStatus
from tests.resources.clients.peer import answers, closed_port, peer, resets, silent

RECORDED = Path(__file__).parents[2] / "fixtures" / "wire" / "cluster"
OWNER = OwnerStatus(NodeID(4), "d:8088", "cold", 1, 6)
LISTED = ShardList({ShardID(5001): OWNER}).encode()
WRITTEN = CodeReply(0).encode(MessageType.WRITE_SHARD)

ASKS: dict[str, Callable[[CoordinatorClient], object]] = {
    "list": CoordinatorClient.list_shards,
    "create": lambda node: node.create_shard(ShardID(5001), "cl", "rp2"),
    "remove": lambda node: node.remove_shard(ShardID(5001)),
}
all_asks = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
Script = Callable[[socket.socket], None]


def in_turn(heard: list[bytes], *replies: bytes) -> Script:
    """Answer each connection with the next of `replies`, noting what was asked."""
    rest = iter(replies)

    def script(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(next(rest))

    return script


def test_shards_are_listed_as_a_recorded_node_listed_them() -> None:
    with peer(answers((RECORDED / "list-shards").read_bytes())) as address:
        listed = CoordinatorClient(address).list_shards()
    assert list(listed) == [5001]
    assert listed[ShardID(5001)].state == "cold"


def test_requests_go_out_as_a_clusters_own() -> None:
    heard: list[bytes] = []
    removed = ErrReply().encode(MessageType.REMOVE_SHARD)
    with peer(in_turn(heard, WRITTEN, LISTED, removed)) as address:
        node = CoordinatorClient(address)
        assert node.create_shard(ShardID(5001), "cl", "rp2") == OWNER
        assert node.remove_shard(ShardID(5001)) is True
    assert [raw.hex() for raw in heard] == [
        "0201000000000000000c0889271a02636c2203727032",
        "0225",
        "02230000000000000003088927",
    ]


def test_many_shards_are_created_and_the_list_is_asked_for_once() -> None:
    heard: list[bytes] = []
    owners = {ShardID(id_): OWNER for id_ in (5001, 5002, 7)}
    listed = ShardList(owners).encode()
    with peer(in_turn(heard, WRITTEN, WRITTEN, listed)) as address:
        wanted = [(ShardID(5001), "cl", "rp2"), (ShardID(5002), "cl", "rp2")]
        assert CoordinatorClient(address).create_shards(wanted) == owners
    assert [raw[1] for raw in heard] == [MessageType.WRITE_SHARD] * 2 + [MessageType.LIST_SHARDS]


def test_one_of_many_that_was_not_created_after_all_is_named() -> None:
    wanted = [(ShardID(5001), "cl", "rp2"), (ShardID(5002), "cl", "rp2")]
    with (
        peer(in_turn([], WRITTEN, WRITTEN, LISTED)) as address,
        pytest.raises(PeerRefused, match="not list the shard while creating shard 5002"),
    ):
        CoordinatorClient(address).create_shards(wanted)


def test_a_shard_that_was_not_created_after_all_is_noticed() -> None:
    with (
        peer(in_turn([], WRITTEN, ShardList({}).encode())) as address,
        pytest.raises(PeerRefused, match="not list the shard while creating shard 5001"),
    ):
        ASKS["create"](CoordinatorClient(address))


def test_a_shard_that_is_not_there_is_removed_already() -> None:
    reply = (RECORDED / "remove-shard-again").read_bytes()
    with peer(answers(reply)) as address:
        assert CoordinatorClient(address).remove_shard(ShardID(5001)) is False


@pytest.mark.parametrize(
    ("ask", "reply"),
    [
        ("create", CodeReply(1, "unexpected EOF\x1b").encode(MessageType.WRITE_SHARD)),
        ("remove", ErrReply("disk is gone").encode(MessageType.REMOVE_SHARD)),
        ("list", ShardList({}, "no").encode()),
    ],
)
def test_what_a_node_refuses_says_why_and_who(ask: str, reply: bytes) -> None:
    with peer(answers(reply)) as address, pytest.raises(PeerRefused) as caught:
        ASKS[ask](CoordinatorClient(address))
    assert caught.value.what.startswith(f"{address}: ")
    assert caught.value.what.isprintable()


def test_names_that_would_lead_outside_are_not_sent() -> None:
    with pytest.raises(UnsafeName):
        CoordinatorClient(closed_port()).create_shard(ShardID(1), "..", "r")


@all_asks
def test_a_closed_port_is_named(ask: Callable[[CoordinatorClient], object]) -> None:
    address = closed_port()
    with pytest.raises(PeerUnreachable, match=f"{address}: connection refused"):
        ask(CoordinatorClient(address))


@pytest.mark.parametrize(
    "script", [answers(b""), answers(b"\x24\0"), resets], ids=["empty", "cut", "reset"]
)
@pytest.mark.parametrize("name", ASKS)
def test_a_connection_that_breaks_leaves_a_command_in_doubt(name: str, script: Script) -> None:
    in_doubt = name == "remove"
    expected = UnknownOutcome if in_doubt else (PeerClosedEarly, PeerUnreachable, BadReply)
    if in_doubt and script is not resets:
        expected = (UnknownOutcome, BadReply)
    with peer(script) as address, pytest.raises(expected) as caught:
        ASKS[name](CoordinatorClient(address))
    assert address in caught.value.what


def test_silence_ends() -> None:
    with peer(silent) as address, pytest.raises(PeerUnreachable, match="no answer while listing"):
        CoordinatorClient(address, timeout_s=0.2).list_shards()


@all_asks
def test_an_http_port_is_called_by_its_name(ask: Callable[[CoordinatorClient], object]) -> None:
    reply = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with (
        peer(answers(reply)) as address,
        pytest.raises(BadReply, match="not a data node") as caught,
    ):
        ask(CoordinatorClient(address))
    assert "HTTP port" in caught.value.hint


@pytest.mark.parametrize("name", ["write-shard", "list-shards", "remove-shard"])
def test_a_reply_cut_anywhere_is_an_error(name: str) -> None:
    ask = ASKS[{"write-shard": "create", "list-shards": "list", "remove-shard": "remove"}[name]]
    whole = (RECORDED / name).read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 12)):
        with peer(answers(whole[:cut])) as address, pytest.raises(ShardkeeperError) as caught:
            ask(CoordinatorClient(address))
        assert address in caught.value.what
