"""The coordinator of a data node: type, length and value, and who closes when."""

from __future__ import annotations

import json
import socket

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.data.node import DataNode
from resources.model import ShardID
from resources.protocol import coordinator as wire
from resources.protocol.tar import END_MARKER
from tests.resources.embedded.asking import say

T0 = 1_600_000_000 * 10**9
LIST = b"\x02\x25"
WRITE = bytes.fromhex("01 000000000000000c 08 8927 1a02 636c 22 03 727032")
WRITTEN = bytes.fromhex("02 0000000000000002 0800")
REMOVE = bytes.fromhex("02 23 0000000000000003 08 8927")
REMOVED = bytes.fromhex("24 0000000000000000")
NOT_FOUND = bytes.fromhex("24 0000000000000011 0a0f") + b"shard not found"


@pytest.fixture
def node(cluster: EmbeddedCluster) -> DataNode:
    return cluster.data[0]


def listed(node: DataNode) -> dict[str, dict[str, object]]:
    raw = say(node.tcp_addr, LIST)
    assert raw[0] == 38
    value = raw[9:]
    assert int.from_bytes(raw[1:9], "big") == len(value)
    return json.loads(value[value.index(b"{") :])


def ask(node: DataNode, request: wire.Request, **how: bool) -> bytes:
    return say(node.tcp_addr, b"\x02" + request.encode(), **how)


def test_a_node_lists_what_is_on_its_disk_without_being_given_a_length(node: DataNode) -> None:
    assert listed(node) == {}
    assert say(node.tcp_addr, b"\x02" + WRITE, wait_bytes=11) == WRITTEN
    [(shard_id, owner)] = listed(node).items()
    assert (shard_id, owner["id"], owner["tcpAddr"]) == ("5001", 4, node.tcp_addr)
    assert (owner["state"], owner["err"]) == ("cold", "")


def test_writing_no_points_creates_a_shard_once_and_the_line_stays_open(node: DataNode) -> None:
    assert say(node.tcp_addr, b"\x02" + WRITE + WRITE, half_close=True) == WRITTEN + WRITTEN
    assert [(s.database, s.policy) for s in node.store.shards().values()] == [("cl", "rp2")]


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        pytest.param("01 0000000000000003 08 8a27", WRITTEN, id="no names: success, and no shard"),
        pytest.param(
            "01 0000000000000003 08 89ff",
            bytes.fromhex("02 0000000000000012 0801 120e") + b"unexpected EOF",
            id="half a message",
        ),
    ],
)
def test_a_write_that_is_not_whole_creates_nothing(
    node: DataNode, message: str, reply: bytes
) -> None:
    assert say(node.tcp_addr, b"\x02" + bytes.fromhex(message), half_close=True) == reply
    assert listed(node) == {}


def test_a_name_that_leads_elsewhere_creates_nothing(node: DataNode) -> None:
    names = b"\x1a\x05../ab\x22\x02rp"
    raw = b"\x08\x07" + names
    reply = say(node.tcp_addr, b"\x02\x01" + len(raw).to_bytes(8, "big") + raw, half_close=True)
    assert reply[9:11] == b"\x08\x01"
    assert listed(node) == {}


def test_points_are_not_taken_here(node: DataNode) -> None:
    raw = bytes.fromhex("08 8927 1200 1a02 636c 22 03 727032")
    reply = say(node.tcp_addr, b"\x02\x01" + len(raw).to_bytes(8, "big") + raw, half_close=True)
    assert reply[9:11] == b"\x08\x01"


def test_a_removed_shard_is_not_found_again(node: DataNode) -> None:
    say(node.tcp_addr, b"\x02" + WRITE, wait_bytes=11)
    assert say(node.tcp_addr, REMOVE) == REMOVED
    assert say(node.tcp_addr, REMOVE) == NOT_FOUND
    assert not list(node.store.directory.glob("data/cl/rp2/*"))


def test_a_backup_is_the_snapshotter_s_tar_without_a_frame(
    cluster: EmbeddedCluster, node: DataNode
) -> None:
    cluster.query("CREATE DATABASE db")
    cluster.write("db", f"m v=1 {T0}")
    tar = ask(node, wire.BackupShard(ShardID(1)))
    assert tar == say(node.tcp_addr, b'\x03\x00{"ShardID":1}')
    assert ask(node, wire.BackupShard(ShardID(1), 0)) == tar
    assert ask(node, wire.BackupShard(ShardID(1), 2**62)) == END_MARKER
    assert ask(node, wire.BackupShard(ShardID(9))) == b""


def test_a_shard_is_fetched_from_another_node(cluster: EmbeddedCluster) -> None:
    cluster.query("CREATE DATABASE db WITH REPLICATION 1")
    cluster.write("db", f"m v=1 {T0}")
    [source] = [node for node in cluster.data if node.store.shards()]
    [shard_id] = source.store.shards()
    target = next(node for node in cluster.data if node is not source)
    copy = wire.CopyShard(source.tcp_addr, "db", "autogen", shard_id)
    assert ask(target, copy) == bytes.fromhex("22 0000000000000000")
    keys = list(target.store.keys(shard_id))
    assert keys == list(source.store.keys(shard_id)) == [b"m#!~#v"]


def test_fetching_what_the_source_does_not_have_is_a_success_and_an_empty_shard(
    cluster: EmbeddedCluster,
) -> None:
    source, target = cluster.data[0], cluster.data[1]
    copy = wire.CopyShard(source.tcp_addr, "db", "autogen", ShardID(77))
    assert ask(target, copy) == bytes.fromhex("22 0000000000000000")
    assert target.store.shards()[ShardID(77)].num_files == 0


def test_a_source_that_does_not_answer_is_an_error(cluster: EmbeddedCluster) -> None:
    cluster.stop_node(0)
    copy = wire.CopyShard(cluster.data[0].tcp_addr, "db", "autogen", ShardID(7))
    assert b"connection refused" in ask(cluster.data[1], copy)
    assert not cluster.data[1].store.shards()


def test_statements_that_delete_are_executed_here_only_and_without_metadata(
    cluster: EmbeddedCluster,
) -> None:
    for node in cluster.data[:2]:
        node.store.create("ghost", "rp", ShardID(50))
    here = cluster.data[0]
    drop = ask(here, wire.ExecuteStatement("DROP DATABASE ghost", ""), half_close=True)
    assert drop == bytes.fromhex("04 0000000000000002 0800")
    assert [len(node.store.shards()) for node in cluster.data[:2]] == [0, 1]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SHOW DATABASES", b'"SHOW DATABASES" should not be executed across a cluster'),
        ("DROP SHARD 778", b"shard not found"),
        ("nonsense", b"found nonsense, expected SELECT"),
    ],
)
def test_other_statements_are_refused(node: DataNode, statement: str, message: bytes) -> None:
    reply = ask(node, wire.ExecuteStatement(statement, ""), half_close=True)
    assert reply[9:11] == b"\x08\x01"
    assert message in reply


def test_an_unknown_message_leaves_the_line_hanging(node: DataNode) -> None:
    host, _, port = node.tcp_addr.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(b"\x02\x63")
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_other_bytes_are_taken_for_http_whose_status_reports_a_data_node(
    cluster: EmbeddedCluster, node: DataNode
) -> None:
    head, _, body = say(node.tcp_addr, b"GET /status HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    reply = json.loads(body)
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert (reply["nodeType"], reply["nodeStatus"]) == ("data", "joined")
    assert reply["metaAddrs"] == [meta.http_addr for meta in cluster.meta]
    other = say(node.tcp_addr, b"GET /other HTTP/1.0\r\n\r\n")
    assert other.startswith(b"HTTP/1.0 200 OK")
    assert other.endswith(b"\r\n\r\n")
