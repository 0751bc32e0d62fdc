from __future__ import annotations

import contextlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, PeerClosedEarly, PlanError, ShardkeeperError, UnsafeName
from resources.model import NodeID, ShardID
from resources.protocol import coordinator as wire
from resources.protocol.coordinator import (
    MAX_REPLY_BYTES,
    BackupShard,
    CodeReply,
    CopyShard,
    ErrReply,
    ExecuteStatement,
    ListShards,
    MessageType,
    RemoveShard,
    Request,
    ShardList,
    WriteShard,
    code_reply,
    err_reply,
    request,
    shard_list,
)
from resources.protocol.meta_api import OwnerStatus
from tests.resources.protocol.parsing import parse_all

REQUESTS: dict[str, Request] = {
    "25": ListShards(),
    "01 000000000000000c 08 8927 1a02 636c 22 03 727032": WriteShard(ShardID(5001), "cl", "rp2"),
    "23 0000000000000003 08 8927": RemoveShard(ShardID(5001)),
    "1f 000000000000000d 0806 10 8080e8e8b3fd80d9a101": BackupShard(ShardID(6)),
    "21 0000000000000025 0a0d 31302e302e302e313a38303838 1202 636c 1a03 727032 2006"
    "28 8080e8e8b3fd80d9a101": CopyShard("10.0.0.1:8088", "cl", "rp2", ShardID(6)),
}
"""Behind the mux header, as a cluster's own nodes send them."""

NOT_FOUND = bytes.fromhex("24 0000000000000011 0a 0f 7368617264206e6f7420666f756e64")
REMOVED = bytes.fromhex("24 0000000000000000")
WRITTEN = bytes.fromhex("02 0000000000000002 0800")

remove_reply = partial(err_reply, asked=MessageType.REMOVE_SHARD)
write_reply = partial(code_reply, asked=MessageType.WRITE_SHARD)

SHARDS = ShardList(
    {
        ShardID(10): OwnerStatus(
            NodeID(4), "127.0.0.1:29081", "hot", 1_795_000_000_123_456_789, 1209
        ),
        ShardID(9): OwnerStatus(NodeID(4), "127.0.0.1:29081", err="not found"),
    }
)

ids = st.integers(0, 2**64 - 1).map(ShardID)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text("abcdé_ -.", min_size=3, max_size=20)
times = st.none() | st.integers(1, 2**63 - 1)
requests = st.one_of(
    st.just(ListShards()),
    st.builds(WriteShard, ids, names, names),
    st.builds(ExecuteStatement, texts, texts),
    st.builds(BackupShard, ids, times),
    st.builds(CopyShard, texts, names, names, ids, times),
    st.builds(RemoveShard, ids),
)
owners = st.builds(
    OwnerStatus,
    st.integers(0, 2**64 - 1).map(NodeID),
    texts,
    st.sampled_from(["hot", "cold", ""]),
    st.none() | st.integers(-(2**62), 2**62),
    st.integers(0, 2**63 - 1),
    texts,
)
lists = st.builds(ShardList, st.dictionaries(ids, owners, max_size=4), texts)


@pytest.mark.parametrize(("hexed", "asked"), REQUESTS.items(), ids=lambda value: repr(value)[:30])
def test_both_directions_are_those_of_a_cluster(hexed: str, asked: Request) -> None:
    assert asked.encode() == bytes.fromhex(hexed)
    assert parse_all(request, bytes.fromhex(hexed), step=1) == asked


def test_a_backup_since_ever_may_name_no_time_at_all() -> None:
    for since in ("1f 0000000000000002 0806", "1f 0000000000000004 0806 1000"):
        assert parse_all(request, bytes.fromhex(since), step=1) == BackupShard(ShardID(6))


def test_several_requests_may_come_on_one_connection() -> None:
    reader = wire.StreamReader()
    two = WriteShard(ShardID(1), "d", "r"), ExecuteStatement("DROP SHARD 1", "d")
    reader.feed(b"".join(asked.encode() for asked in two))
    for asked in two:
        with pytest.raises(StopIteration) as done:
            next(request(reader))
        assert done.value.value == asked


@given(requests, st.integers(1, 100))
def test_requests_go_both_ways(asked: Request, step: int) -> None:
    assert parse_all(request, asked.encode(), step=step) == asked


@pytest.mark.parametrize("hexed", REQUESTS)
def test_a_request_cut_anywhere_is_noticed(hexed: str) -> None:
    whole = bytes.fromhex(hexed)
    for cut in range(len(whole)):
        with pytest.raises(PeerClosedEarly):
            parse_all(request, whole[:cut], step=7)


def tlv(type_: int, raw: bytes) -> bytes:
    return bytes([type_]) + len(raw).to_bytes(8, "big") + raw


@pytest.mark.parametrize("type_", [0, 2, 5, 17, 21, 39, 41, 43, 255])
def test_other_messages_are_not_known(type_: int) -> None:
    with pytest.raises(BadReply, match=f"unknown type {type_}"):
        parse_all(request, tlv(type_, b"\x08\x01"), step=100)


def test_points_are_neither_written_nor_read() -> None:
    point = bytes.fromhex("08 01 12 02 0000 1a01 64 2201 72")
    with pytest.raises(BadReply, match="unknown fields"):
        parse_all(request, tlv(MessageType.WRITE_SHARD, point), step=100)
    assert {its.number for its in wire.pb.WriteShardRequest.DESCRIPTOR.fields} == {1, 3, 4}


@pytest.mark.parametrize(
    "raw",
    [
        tlv(MessageType.REMOVE_SHARD, b""),  # lacks its ID
        tlv(MessageType.REMOVE_SHARD, b"\xff"),
        tlv(MessageType.EXECUTE_STATEMENT, b"\x0a\x01\xff\x12\x00"),  # not UTF-8
        tlv(MessageType.COPY_SHARD, b"\x0a\x00"),
        b"\x23" + (2**20 + 1).to_bytes(8, "big"),
        b"\x23" + b"\xff" * 8,
    ],
)
def test_what_is_no_such_message_is_refused(raw: bytes) -> None:
    with pytest.raises(BadReply):
        parse_all(request, raw, step=100)


@pytest.mark.parametrize(("database", "policy"), [("..", "r"), ("d", "a/b"), ("", "r"), ("d", "")])
def test_names_that_would_lead_outside_are_refused_on_both_sides(
    database: str, policy: str
) -> None:
    for asked in (
        WriteShard(ShardID(1), database, policy),
        CopyShard("h:1", database, policy, ShardID(1)),
    ):
        with pytest.raises(UnsafeName):
            asked.encode()
    raw = wire.pb.WriteShardRequest(ShardID=1, Database=database, RetentionPolicy=policy)
    with pytest.raises(UnsafeName):
        parse_all(request, tlv(1, raw.SerializeToString()), step=100)


def test_what_does_not_fit_is_refused() -> None:
    for asked in (RemoveShard(ShardID(2**64)), BackupShard(ShardID(1), 2**63)):
        with pytest.raises(PlanError):
            asked.encode()


@given(st.binary(max_size=120), st.integers(1, 50))
def test_arbitrary_bytes_are_refused_politely(raw: bytes, step: int) -> None:
    for parse in (request, remove_reply, write_reply, shard_list):
        with contextlib.suppress(ShardkeeperError):
            parse_all(parse, raw, step=step)


@given(st.sampled_from(list(MessageType)), st.binary(max_size=60))
def test_arbitrary_values_are_refused_politely(type_: int, raw: bytes) -> None:
    with contextlib.suppress(ShardkeeperError):
        parse_all(request, tlv(type_, raw), step=100)
    with contextlib.suppress(ShardkeeperError):
        parse_all(shard_list, tlv(38, raw), step=100)
    with contextlib.suppress(ShardkeeperError):
        parse_all(remove_reply, tlv(36, raw), step=100)


# --- replies ------------------------------------------------------------------------------


def test_replies_are_those_of_a_data_node() -> None:
    assert parse_all(write_reply, WRITTEN, step=1) == CodeReply(0)
    assert CodeReply(0).encode(MessageType.WRITE_SHARD) == WRITTEN
    assert parse_all(remove_reply, REMOVED, step=1) == ErrReply()
    assert ErrReply().encode(MessageType.REMOVE_SHARD) == REMOVED
    assert parse_all(remove_reply, NOT_FOUND, step=1) == ErrReply("shard not found")
    assert ErrReply("shard not found").encode(MessageType.REMOVE_SHARD) == NOT_FOUND


def test_a_list_of_shards_looks_like_a_data_nodes() -> None:
    raw = SHARDS.encode()
    assert raw[0] == 38
    assert b'{"10":{"id":4,"tcpAddr":"127.0.0.1:29081","state":"hot","last-modified":"2026-' in raw
    assert parse_all(shard_list, raw, step=11) == SHARDS


@given(lists, st.integers(1, 100))
def test_lists_go_both_ways(listed: ShardList, step: int) -> None:
    assert parse_all(shard_list, listed.encode(), step=step) == listed


@given(st.integers(-(2**31), 2**31 - 1), texts)
def test_codes_go_both_ways(code: int, message: str) -> None:
    raw = CodeReply(code, message).encode(MessageType.WRITE_SHARD)
    assert parse_all(write_reply, raw, step=3) == CodeReply(code, message)


@pytest.mark.parametrize("whole", [NOT_FOUND, REMOVED])
def test_a_reply_cut_anywhere_is_noticed(whole: bytes) -> None:
    for cut in range(len(whole)):
        with pytest.raises(PeerClosedEarly):
            parse_all(remove_reply, whole[:cut], step=4)


def test_a_list_cut_anywhere_is_noticed() -> None:
    whole = SHARDS.encode()
    for cut in range(len(whole)):
        with pytest.raises(PeerClosedEarly):
            parse_all(shard_list, whole[:cut], step=100)


def test_an_error_without_a_text_is_an_error() -> None:
    assert parse_all(remove_reply, tlv(36, b"\x0a\x00"), step=9).err == "no reason"
    assert parse_all(shard_list, tlv(38, b"\x0a\x02{}\x12\x00"), step=9).err == "no reason"


@pytest.mark.parametrize(
    "raw",
    [
        tlv(38, b""),
        tlv(36, b""),
        tlv(38, b"\x0a\x02{}") + b"x",
        tlv(38, b"\x0a\x02[]"),
        tlv(38, b'\x0a\x08{"a":{}}'),
        tlv(38, b'\x0a\x08{"7":{}}'),
        tlv(38, b'\x0a\x08{"7":[]}'),
        tlv(38, b'\x0a\x09{"07":{}}'),
        b"\x26" + (MAX_REPLY_BYTES + 1).to_bytes(8, "big"),
    ],
)
def test_what_is_no_list_of_shards_is_refused(raw: bytes) -> None:
    with pytest.raises(BadReply):
        parse_all(shard_list, raw, step=100)


def test_null_is_a_list_of_no_shards() -> None:
    assert parse_all(shard_list, tlv(38, b"\x0a\x04null"), step=100) == ShardList({})
