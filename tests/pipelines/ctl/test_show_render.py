"""`show` and `show-shards` print what influxdb-cluster 1.8.11's own influxd-ctl printed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipelines.ctl.show_render import render_members, render_shards, render_single, shards_of
from resources.model import (
    DatabaseInfo,
    Metastore,
    NodeID,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
)
from resources.protocol.meta_api import (
    ClusterMembers,
    DataNodeMember,
    MetaNodeMember,
    OwnerStatus,
    ShardStatus,
)
from resources.protocol.times import parse_time

# What a real cluster's influxd-ctl printed: node 3 down, shard group 2 truncated, shard 4 planned
# on node 2 and never written to.
SHOW = """\
Data Nodes
==========
ID\tTCP Address\t\tVersion
2\t127.0.0.1:45229\t\t1.8.11-c1.2.0
3\t127.0.0.1:35547\t\t

Meta Nodes
==========
ID\tTCP Address\t\tVersion
1\t127.0.0.1:59441\t\t1.8.11-c1.2.0
"""

SHOW_SHARDS = """\
Shards
==========
ID  Database  Retention Policy  Desired Replicas  Shard Group  Start                 End                              Expires               Owners
1   telegraf  autogen           2                 1            2020-09-07T00:00:00Z  2020-09-14T00:00:00Z                                   [{ID:3 TCPAddr:127.0.0.1:35547} {ID:2 TCPAddr:127.0.0.1:45229}]
2   telegraf  autogen           2                 2            2026-11-23T00:00:00Z  2026-11-23T02:24:21.630835522Z*                        [{ID:2 TCPAddr:127.0.0.1:45229} {ID:3 TCPAddr:127.0.0.1:35547}]
3   a b'é日本   long policy name  1                 3            2020-09-07T00:00:00Z  2020-09-14T00:00:00Z             2048-01-31T00:00:00Z  [{ID:3 TCPAddr:127.0.0.1:35547}]
4   a b'é日本   long policy name  1                 3            2020-09-07T00:00:00Z  2020-09-14T00:00:00Z             2048-01-31T00:00:00Z  [{ID:2 TCPAddr:127.0.0.1:45229}]
"""  # noqa: E501

SHOW_SHARDS_V = """\
Shards
==========
ID  Database  Retention Policy  Desired Replicas  Shard Group  Start                 End                              Expires               Owners
1   telegraf  autogen           2                 1            2020-09-07T00:00:00Z  2020-09-14T00:00:00Z                                   [{ID:3 TCPAddr:127.0.0.1:35547 State: LastModified:0001-01-01T00:00:00Z Size:0 Err:not found} {ID:2 TCPAddr:127.0.0.1:45229 State:cold LastModified:2026-11-23T02:23:19.566241024Z Size:86 Err:nil}]
2   telegraf  autogen           2                 2            2026-11-23T00:00:00Z  2026-11-23T02:24:21.630835522Z*                        [{ID:2 TCPAddr:127.0.0.1:45229 State:cold LastModified:2026-11-23T02:23:19.570241024Z Size:86 Err:nil} {ID:3 TCPAddr:127.0.0.1:35547 State: LastModified:0001-01-01T00:00:00Z Size:0 Err:not found}]
3   a b'é日本   long policy name  1                 3            2020-09-07T00:00:00Z  2020-09-14T00:00:00Z             2048-01-31T00:00:00Z  [{ID:3 TCPAddr:127.0.0.1:35547 State: LastModified:0001-01-01T00:00:00Z Size:0 Err:not found}]
4   a b'é日本   long policy name  1                 3            2020-09-07T00:00:00Z  2020-09-14T00:00:00Z             2048-01-31T00:00:00Z  [{ID:2 TCPAddr:127.0.0.1:45229 State: LastModified:0001-01-01T00:00:00Z Size:0 Err:not found}]
"""  # noqa: E501

NOTHING = """\
Shards
==========
ID  Database  Retention Policy  Desired Replicas  Shard Group  Start  End  Expires  Owners
"""


def ns(text: str) -> int:
    moment = parse_time(text, "time")
    assert moment is not None
    return moment


def data_node(node_id: int, tcp_addr: str, version: str = "1.8.11-c1.2.0") -> DataNodeMember:
    return DataNodeMember(NodeID(node_id), tcp_addr, "h:8086", "http", "joined", version)


def meta_node(node_id: int, addr: str, version: str = "1.8.11-c1.2.0") -> MetaNodeMember:
    return MetaNodeMember(NodeID(node_id), addr, "http", "raft:8089", version)


def on_two(modified: str = "", size_bytes: int = 0) -> OwnerStatus:
    return owner(2, "127.0.0.1:45229", modified, size_bytes)


def on_three() -> OwnerStatus:
    return owner(3, "127.0.0.1:35547", "", 0)


def owner(node_id: int, tcp_addr: str, modified: str, size_bytes: int) -> OwnerStatus:
    if not modified:
        return OwnerStatus(NodeID(node_id), tcp_addr, err="not found")
    return OwnerStatus(NodeID(node_id), tcp_addr, "cold", ns(modified), size_bytes)


TELEGRAF = ShardStatus(
    id=ShardID(1),
    database="telegraf",
    policy="autogen",
    replica_n=2,
    group_id=ShardGroupID(1),
    start_time_ns=ns("2020-09-07T00:00:00Z"),
    end_time_ns=ns("2020-09-14T00:00:00Z"),
    expire_time_ns=None,
    truncated_at_ns=None,
    owners=(on_three(), on_two("2026-11-23T02:23:19.566241024Z", 86)),
)
TRUNCATED = replace(
    TELEGRAF,
    id=ShardID(2),
    group_id=ShardGroupID(2),
    start_time_ns=ns("2026-11-23T00:00:00Z"),
    end_time_ns=ns("2026-11-30T00:00:00Z"),
    truncated_at_ns=ns("2026-11-23T02:24:21.630835522Z"),
    owners=(on_two("2026-11-23T02:23:19.570241024Z", 86), on_three()),
)
EXPIRING = replace(
    TELEGRAF,
    id=ShardID(3),
    database="a b'é日本",
    policy="long policy name",
    replica_n=1,
    group_id=ShardGroupID(3),
    expire_time_ns=ns("2048-01-31T00:00:00Z"),
    owners=(on_three(),),
)
SHARDS = (TELEGRAF, TRUNCATED, EXPIRING, replace(EXPIRING, id=ShardID(4), owners=(on_two(),)))


def test_members_look_as_the_original_prints_them() -> None:
    members = ClusterMembers(
        (data_node(2, "127.0.0.1:45229"), data_node(3, "127.0.0.1:35547", version="")),
        (meta_node(1, "127.0.0.1:59441"),),
    )
    assert render_members(members) == SHOW


@pytest.mark.parametrize(
    ("nodes", "lines"),
    [
        ([], ["ID\tTCP Address\tVersion"]),
        ([(4, "a:1")], ["ID\tTCP Address\tVersion", "4\ta:1\t\t1.8"]),
        (
            [(4, "a:1"), (12345678, "aaaaaaaaaaaaaaa:8088")],
            [
                "ID\t\tTCP Address\t\tVersion",
                "4\t\ta:1\t\t\t1.8",
                "12345678\taaaaaaaaaaaaaaa:8088\t1.8",
            ],
        ),
        (
            [(4, "é" * 12 + ":1"), (5, "日本日本日本:1")],
            ["ID\tTCP Address\tVersion", "4\t" + "é" * 12 + ":1\t1.8", "5\t日本日本日本:1\t1.8"],
        ),
        (
            [(6, "b" * 13 + ":1"), (7, "b" * 14 + ":1"), (8, "a" * 20 + ":8088")],
            [
                "ID\tTCP Address\t\t\tVersion",
                "6\t" + "b" * 13 + ":1\t\t\t1.8",
                "7\t" + "b" * 14 + ":1\t\t1.8",
                "8\t" + "a" * 20 + ":8088\t1.8",
            ],
        ),
    ],
)
def test_tab_stops_are_where_the_original_has_them(
    nodes: list[tuple[int, str]], lines: list[str]
) -> None:
    members = ClusterMembers(tuple(data_node(i, addr, "1.8") for i, addr in nodes), ())
    data, meta = render_members(members).split("\n\n")
    assert data.splitlines() == ["Data Nodes", "==========", *lines]
    assert meta == "Meta Nodes\n==========\nID\tTCP Address\tVersion\n"


@pytest.mark.parametrize(
    ("shards", "verbose", "text"),
    [
        (SHARDS, False, SHOW_SHARDS),
        (SHARDS, True, SHOW_SHARDS_V),
        ((), False, NOTHING),
        ((), True, NOTHING),
    ],
    ids=["shards", "shards in detail", "no shards", "no shards in detail"],
)
def test_shards_look_as_the_original_prints_them(
    shards: tuple[ShardStatus, ...], verbose: bool, text: str
) -> None:
    assert render_shards(shards, verbose=verbose) == text


def test_fractions_of_seconds_are_shown_only_where_a_group_was_truncated() -> None:
    late = ns("2026-11-23T02:14:02.123456789Z")
    shard = replace(TELEGRAF, start_time_ns=late, end_time_ns=late, expire_time_ns=late)
    assert render_shards([shard], verbose=False).count("2026-11-23T02:14:02Z  ") == 3
    cut = replace(shard, truncated_at_ns=ns("1969-12-31T23:59:59.9Z"))
    assert "  1969-12-31T23:59:59.9Z*  " in render_shards([cut], verbose=False)


def test_a_start_before_1970_is_cut_to_its_own_second() -> None:
    early = replace(TELEGRAF, start_time_ns=ns("1677-09-21T00:12:43.145224194Z"))
    assert "  1677-09-21T00:12:43Z  " in render_shards([early], verbose=False)


def test_a_shard_without_owners_shows_an_empty_pair_of_brackets() -> None:
    alone = replace(TELEGRAF, owners=())
    for verbose in (False, True):
        assert render_shards([alone], verbose=verbose).endswith("  []\n")


@pytest.mark.fault(98)
@pytest.mark.parametrize(
    "odd", ["\n", "\r", "\t", "\v", "\f", "\x1b[31m", "\x00", "\u202e", "\ud800"]
)
def test_names_neither_break_lines_nor_command_the_terminal(odd: str) -> None:
    copy = OwnerStatus(NodeID(2), f"h{odd}:8088", f"cold{odd}", err=f"e{odd}")
    shard = replace(TELEGRAF, database=f"d{odd}b", policy=f"r{odd}p", owners=(copy,))
    text = render_shards([TELEGRAF, shard, TRUNCATED], verbose=True)
    assert text.count("\n") == 2 + 1 + 3
    assert text.isascii()
    assert all(c.isprintable() or c == "\n" for c in text)
    starts = {line.index("T00:00:00Z") for line in text.splitlines()[3:]}
    assert len(starts) == 1, "columns are still below each other"

    nodes = render_members(
        ClusterMembers((data_node(1, f"h{odd}:1", f"1{odd}8"),), (meta_node(2, f"m{odd}:1"),))
    )
    assert nodes.count("\n") == 9
    assert all(c.isprintable() or c in "\t\n" for c in nodes)


WEEK_NS = 7 * 86_400 * 10**9


def group(group_id: int, *shard_ids: int, deleted: bool = False) -> ShardGroupInfo:
    return ShardGroupInfo(
        id=ShardGroupID(group_id),
        start_time_ns=ns("2020-09-07T00:00:00Z"),
        end_time_ns=ns("2020-09-14T00:00:00Z"),
        deleted_at_ns=1 if deleted else None,
        truncated_at_ns=ns("2020-09-08T00:00:00.5Z") if group_id == 9 else None,
        shards=tuple(ShardInfo(ShardID(i)) for i in shard_ids),
    )


SINGLE = Metastore(
    term=0,
    index=7,
    cluster_id=1,
    databases=(
        DatabaseInfo(
            "telegraf",
            "autogen",
            (
                RetentionPolicyInfo(
                    "autogen", 0, WEEK_NS, 1, (group(1, 4), group(2, 5, deleted=True))
                ),
                RetentionPolicyInfo("week", WEEK_NS, WEEK_NS, 1, (group(9, 8),)),
            ),
        ),
        DatabaseInfo("empty", "autogen", (RetentionPolicyInfo("autogen", 0, WEEK_NS, 1),)),
    ),
    users=(),
    data_nodes=(),
    meta_nodes=(),
    max_node_id=0,
    max_shard_group_id=9,
    max_shard_id=8,
)


def test_a_single_servers_shards_are_listed_without_owners_even_when_they_have_expired() -> None:
    for verbose in (False, True):
        assert render_shards(shards_of(SINGLE), verbose=verbose) == (
            "Shards\n"
            "==========\n"
            "ID  Database  Retention Policy  Desired Replicas  Shard Group  "
            "Start                 End                      Expires               Owners\n"
            "4   telegraf  autogen           1                 1            "
            "2020-09-07T00:00:00Z  2020-09-14T00:00:00Z                           []\n"
            "8   telegraf  week              1                 9            "
            "2020-09-07T00:00:00Z  2020-09-08T00:00:00.5Z*  2020-09-21T00:00:00Z  []\n"
        )


def test_a_single_server_is_called_one() -> None:
    assert render_single("localhost:8088", SINGLE) == (
        "localhost:8088 is a single server and no member of a cluster; "
        "show-shards lists its 2 shards\n"
    )
