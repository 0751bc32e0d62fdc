"""What a real cluster's programs said to each other, read by our parsers and written again.

Requests are compared with what our clients send, replies with what our dev cluster answers.
"""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import pytest

from resources.errors import BadReply
from resources.model import ShardID
from resources.protocol import coordinator, snapshotter
from resources.protocol.commands import (
    CreateDatabase,
    Response,
    RetentionPolicySpec,
    decode_command,
    decode_response,
)
from resources.protocol.coordinator import (
    BackupShard,
    CodeReply,
    CopyShard,
    ErrReply,
    ExecuteStatement,
    ListShards,
    MessageType,
    RemoveShard,
)
from resources.protocol.meta import decode_metastore, encode_metastore
from resources.protocol.meta_api import cluster_members, encode_shards, shard_statuses
from resources.protocol.snapshotter import (
    DatabasePaths,
    MetastoreBackup,
    MetastoreUpdate,
    ShardBackup,
    ShardPath,
    ShardUpdate,
    id_map,
    metastore_reply,
    shard_paths,
)
from resources.protocol.tar import TarWalker, member_place
from tests.resources.protocol.parsing import parse_all

HEARD = Path(__file__).parents[2] / "fixtures" / "wire" / "members"
SHARD = ShardID(1)
STEP = 7
WEEK_NS = 604_800 * 10**9
FIRST_FILE = "000000001-000000001.tsm"


def asked(name: str) -> bytes:
    return (HEARD / f"{name}.asked").read_bytes()


def recorded(name: str) -> bytes:
    return (HEARD / f"{name}.said").read_bytes()


def http(exchange: bytes) -> tuple[str, bytes]:
    """The first line of a request or reply, and its body unpacked."""
    head, _, body = exchange.partition(b"\r\n\r\n")
    packed = b"Content-Encoding: gzip" in head
    return head.split(b"\r\n")[0].decode(), gzip.decompress(body) if packed else body


# --- coordinator --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("list-shards", ListShards()),
        ("remove-shard", RemoveShard(SHARD)),
        ("backup-shard", BackupShard(SHARD)),
    ],
)
def test_a_data_node_is_asked_as_its_own_cluster_asks_it(
    name: str, expected: coordinator.Request
) -> None:
    wire = asked(name)
    assert wire[:1] == coordinator.MUX_HEADER
    assert parse_all(coordinator.request, wire[1:], step=STEP) == expected
    assert expected.encode() == wire[1:]


def test_a_copy_is_asked_for_as_a_meta_node_asks() -> None:
    wire = asked("copy-shard")
    copy = parse_all(coordinator.request, wire[1:], step=STEP)
    assert isinstance(copy, CopyShard)
    assert copy == CopyShard(copy.host, "telegraf", "autogen", SHARD)
    assert copy.host.startswith("127.0.0.1:")
    assert copy.encode() == wire[1:]


def test_statements_are_those_that_a_data_node_has_another_do() -> None:
    wire = asked("statements")
    expected = [
        ExecuteStatement(
            "DROP SERIES FROM cpu WHERE host = 'b' AND time > '2020-09-13T12:26:40Z'", "telegraf"
        ),
        ExecuteStatement("DROP MEASUREMENT cpu", "telegraf"),
        ExecuteStatement("DROP DATABASE telegraf", ""),
    ]
    at = len(coordinator.MUX_HEADER)
    for statement in expected:
        assert parse_all(coordinator.request, wire[at:], step=STEP) == statement
        assert wire[at:].startswith(statement.encode())
        at += len(statement.encode())
    assert at == len(wire)
    done = CodeReply(0).encode(MessageType.EXECUTE_STATEMENT)
    assert recorded("statements") == done * len(expected)


def test_the_points_of_other_nodes_are_not_taken() -> None:
    with pytest.raises(BadReply, match="has unknown fields"):
        parse_all(coordinator.request, asked("write-points")[1:], step=STEP)
    wire = recorded("write-points")
    parse = partial(coordinator.code_reply, asked=MessageType.WRITE_SHARD)
    assert parse_all(parse, wire, step=STEP) == CodeReply(0)
    assert CodeReply(0).encode(MessageType.WRITE_SHARD) == wire


@pytest.mark.parametrize(
    ("name", "type_"),
    [("remove-shard", MessageType.REMOVE_SHARD), ("copy-shard", MessageType.COPY_SHARD)],
)
def test_success_is_an_error_of_no_text(name: str, type_: MessageType) -> None:
    parse = partial(coordinator.err_reply, asked=type_)
    assert parse_all(parse, recorded(name), step=STEP) == ErrReply()
    assert ErrReply().encode(type_) == recorded(name)


def test_the_list_of_a_data_nodes_shards_reads_and_writes_alike() -> None:
    wire = recorded("list-shards")
    listed = parse_all(coordinator.shard_list, wire, step=STEP)
    assert listed.encode() == wire
    [(shard_id, owner)] = listed.shards.items()
    assert (shard_id, owner.state, owner.err) == (SHARD, "hot", "")
    assert owner.size_bytes > 0
    assert owner.last_modified_ns is not None


def test_both_services_send_the_same_tar() -> None:
    for name in ("backup-shard", "shard-backup"):
        walker = TarWalker()
        list(walker.feed(memoryview(recorded(name))))
        walker.finish()
        [member] = walker.members
        assert member_place(member.name).path == f"telegraf/autogen/{SHARD}/{FIRST_FILE}"
    assert recorded("backup-shard") == recorded("shard-backup")


# --- snapshotter --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metastore-backup", MetastoreBackup()),
        ("database-info", DatabasePaths("telegraf")),
        ("shard-backup", ShardBackup(SHARD, None, "telegraf", "autogen")),
    ],
)
def test_a_backup_asks_as_the_original_asks(name: str, expected: snapshotter.Request) -> None:
    wire = asked(name)
    assert wire[:1] == snapshotter.MUX_HEADER
    assert parse_all(snapshotter.request, wire[1:], step=STEP) == expected
    assert expected.encode() == wire[1:]


def test_the_metastore_of_a_cluster_reads_and_writes_alike() -> None:
    wire = recorded("metastore-backup")
    reply = parse_all(metastore_reply, wire, step=STEP)
    assert reply.encode() == wire
    metastore = decode_metastore(reply.meta)
    assert encode_metastore(metastore) == reply.meta
    [place] = metastore.places()
    assert [owner.node_id for owner in place.shard.owners] == [4, 5, 6]
    assert [node.id for node in (*metastore.meta_nodes, *metastore.data_nodes)] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    [user] = metastore.users
    assert [(grant.database, grant.privilege) for grant in user.privileges] == [("telegraf", 1)]


def test_the_paths_of_a_data_node_read_and_write_alike() -> None:
    paths = parse_all(shard_paths, recorded("database-info"), step=STEP)
    assert paths.paths == (ShardPath("telegraf", "autogen", SHARD),)
    assert paths.encode() == recorded("database-info")


def test_an_import_asks_as_the_original_asks() -> None:
    wire = asked("metastore-update")
    update = parse_all(snapshotter.request, wire[1:], step=STEP)
    assert isinstance(update, MetastoreUpdate)
    assert (update.database, update.new_database) == ("telegraf", "copy")
    assert decode_metastore(update.meta).database("telegraf") is not None
    assert update.encode() == wire[1:]
    pairs = parse_all(id_map, recorded("metastore-update"), step=STEP)
    assert [old for old, _ in pairs.pairs] == [SHARD]
    assert pairs.encode() == recorded("metastore-update")


def test_an_upload_begins_as_the_originals_begins() -> None:
    wire = asked("shard-update")
    [(_, new)] = parse_all(id_map, recorded("metastore-update"), step=STEP).pairs
    head = snapshotter.MUX_HEADER + ShardUpdate(new).encode()
    assert wire.startswith(head)
    walker = TarWalker()
    list(walker.feed(memoryview(wire[len(head) :])))
    walker.finish()
    [member] = walker.members
    assert member_place(member.name).path == f"copy/autogen/{new}/{FIRST_FILE}"
    assert recorded("shard-update") == b""


# --- meta API -----------------------------------------------------------------------------


def test_members_read_and_write_alike() -> None:
    line, _ = http(asked("show"))
    assert line == "GET /show-cluster HTTP/1.1"
    _, body = http(recorded("show"))
    members = cluster_members(body)
    assert members.encode() == body
    assert [node.id for node in (*members.meta, *members.data)] == [1, 2, 3, 4, 5, 6]


def test_shards_read_and_write_alike() -> None:
    line, _ = http(asked("show-shards"))
    assert line == "GET /show-shards?verbose=true HTTP/1.1"
    _, body = http(recorded("show-shards"))
    shards = shard_statuses(body)
    assert encode_shards(shards) == body
    [shard] = shards
    assert (shard.id, shard.database, shard.replica_n) == (SHARD, "telegraf", 3)
    assert sorted(owner.id for owner in shard.owners) == [4, 5, 6]


def test_a_data_nodes_command_is_understood() -> None:
    line, raw = http(asked("create-database"))
    assert line == "POST /execute HTTP/1.1"
    command = decode_command(raw)
    assert command == CreateDatabase("telegraf", RetentionPolicySpec("autogen", 0, WEEK_NS, 3))
    # Go writes the extension before the type that it belongs to, and we behind it.
    assert sorted(command.encode()) == sorted(raw)
    _, reply = http(recorded("create-database"))
    response = decode_response(reply)
    assert response == Response(index=response.index)
    assert response.encode() == reply
