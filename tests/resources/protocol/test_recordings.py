"""What a real server said, read by our parsers and written again by our encoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.errors import PeerClosedEarly
from resources.model import ShardID
from resources.protocol.meta import decode_metastore, encode_metastore, trimmed
from resources.protocol.snapshotter import (
    ShardPath,
    id_map,
    metastore_reply,
    shard_paths,
    what_answered_instead,
)
from tests.resources.protocol.parsing import parse_all

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "wire"

TELEGRAF = (
    ShardPath("telegraf", "autogen", ShardID(1)),
    ShardPath("telegraf", "autogen", ShardID(2)),
)
ODD = (ShardPath("sp äce", "dots.and-dash", ShardID(3)),)


def recorded(name: str) -> bytes:
    return (RECORDINGS / name).read_bytes()


def test_a_recorded_metastore_reads_and_writes_alike() -> None:
    wire = recorded("metastore")
    reply = parse_all(metastore_reply, wire, step=100)
    assert reply.encode() == wire
    assert encode_metastore(decode_metastore(reply.meta)) == reply.meta


def test_a_recorded_metastore_holds_what_was_created() -> None:
    metastore = decode_metastore(parse_all(metastore_reply, recorded("metastore"), step=100).meta)
    telegraf, odd, empty = metastore.databases
    assert [db.name for db in metastore.databases] == ["telegraf", "sp äce", "empty"]
    assert [place.shard_id for place in metastore.places()] == [1, 2, 3]
    assert [cq.name for cq in telegraf.continuous_queries] == ["cq"]
    [policy] = telegraf.retention_policies
    [subscription] = policy.subscriptions
    assert subscription.destinations == ("udp://127.0.0.1:9",)
    assert odd.default_retention_policy == "dots.and-dash"
    assert empty.retention_policies[0].shard_groups == ()
    [user] = metastore.users
    assert (user.name, user.admin, user.hash[:4]) == ("reader", False, "$2a$")
    assert [(grant.database, grant.privilege) for grant in user.privileges] == [("telegraf", 1)]


def test_a_recorded_metastore_can_be_trimmed() -> None:
    meta = parse_all(metastore_reply, recorded("metastore"), step=100).meta
    small = trimmed(meta, database="telegraf")
    assert len(small) < len(meta) / 2
    assert b"$2a$" not in small
    assert b"udp:" not in small


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("paths-all", TELEGRAF + ODD),
        ("paths-database", TELEGRAF),
        ("paths-policy", ODD),
        ("paths-none", ()),
    ],
)
def test_recorded_paths_read_and_write_alike(name: str, expected: tuple[ShardPath, ...]) -> None:
    paths = parse_all(shard_paths, recorded(name), step=10)
    assert paths.paths == expected
    assert paths.encode() == recorded(name)


def test_a_database_that_is_not_there_is_silence() -> None:
    with pytest.raises(PeerClosedEarly, match="empty reply"):
        parse_all(shard_paths, recorded("paths-unknown"), step=10)


def test_recorded_id_maps_are_understood() -> None:
    assert sorted(old for old, _ in parse_all(id_map, recorded("import"), step=10).pairs) == [1, 2]
    assert parse_all(id_map, recorded("import-refused"), step=10).pairs == ()


def test_the_http_port_gives_itself_away() -> None:
    assert "HTTP port" in what_answered_instead(recorded("not-the-http-port"))
    for name in ("shard-1.tar", "shard-3.tar", "shard-unchanged.tar", "metastore"):
        assert not what_answered_instead(recorded(name))
