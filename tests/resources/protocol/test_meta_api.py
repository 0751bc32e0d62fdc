from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, ShardkeeperError
from resources.model import NodeID, ShardGroupID, ShardID
from resources.protocol.commands import Response, decode_response
from resources.protocol.coordinator import (
    CodeReply,
    ErrReply,
    MessageType,
    code_reply,
    err_reply,
    shard_list,
)
from resources.protocol.meta import decode_metastore, encode_metastore
from resources.protocol.meta_api import (
    ClusterMembers,
    DataNodeMember,
    Lease,
    MetaNodeMember,
    OwnerStatus,
    ShardStatus,
    cluster_members,
    encode_error,
    encode_shards,
    error_text,
    lease,
    shard_statuses,
)
from resources.protocol.storable import check_storable
from tests.resources.protocol.parsing import parse_all

RECORDED = Path(__file__).parents[2] / "fixtures" / "wire" / "cluster"

SHARD = ShardStatus(
    id=ShardID(6),
    database="cl",
    policy="rp2",
    replica_n=2,
    group_id=ShardGroupID(4),
    start_time_ns=1_599_436_800_000_000_000,
    end_time_ns=1_600_041_600_000_000_000,
    expire_time_ns=None,
    truncated_at_ns=None,
    owners=(
        OwnerStatus(NodeID(6), "127.0.0.1:29083", "hot", 1_795_341_575_477_732_668, 1209),
        OwnerStatus(NodeID(4), "127.0.0.1:29081", "", None, 0, "not found"),
    ),
)
SHARDS_WIRE = (
    b'[{"id":6,"database":"cl","retention-policy":"rp2","replica-n":2,"shard-group-id":4,'
    b'"start-time":"2020-09-07T00:00:00Z","end-time":"2020-09-14T00:00:00Z",'
    b'"expire-time":"0001-01-01T00:00:00Z","truncated-at":"0001-01-01T00:00:00Z",'
    b'"owners":[{"id":6,"tcpAddr":"127.0.0.1:29083","state":"hot",'
    b'"last-modified":"2026-11-22T09:59:35.477732668Z","size":1209,"err":""},'
    b'{"id":4,"tcpAddr":"127.0.0.1:29081","state":"",'
    b'"last-modified":"0001-01-01T00:00:00Z","size":0,"err":"not found"}]}]\n'
)
MEMBERS = ClusterMembers(
    (DataNodeMember(NodeID(4), "d:8088", "d:8086", "http", "joined", "1.8.11"),),
    (MetaNodeMember(NodeID(1), "m:8091", "", "m:8089", ""),),
)
MEMBERS_WIRE = (
    b'{"data":[{"id":4,"tcpAddr":"d:8088","httpAddr":"d:8086","httpScheme":"http",'
    b'"status":"joined","version":"1.8.11"}],'
    b'"meta":[{"id":1,"addr":"m:8091","httpScheme":"","tcpAddr":"m:8089","version":""}]}\n'
)
LEASE = Lease("continuous_querier", 1_795_341_579_799_800_530, NodeID(4))
LEASE_WIRE = b'{"name":"continuous_querier","expiration":"2026-11-22T09:59:39.79980053Z","owner":4}'

READERS: list[Callable[[bytes], object]] = [
    cluster_members,
    shard_statuses,
    lease,
]


def test_both_directions_are_those_of_a_cluster() -> None:
    assert shard_statuses(SHARDS_WIRE) == (SHARD,)
    assert encode_shards((SHARD,)) == SHARDS_WIRE
    assert cluster_members(MEMBERS_WIRE) == MEMBERS
    assert MEMBERS.encode() == MEMBERS_WIRE
    assert lease(LEASE_WIRE) == LEASE
    assert LEASE.encode() == LEASE_WIRE


def test_nothing_is_null_and_comes_back_as_nothing() -> None:
    assert encode_shards(()) == b"null\n"
    assert shard_statuses(b"null\n") == ()
    nobody = ClusterMembers((), ())
    assert nobody.encode() == b'{"data":null,"meta":null}\n'
    assert cluster_members(nobody.encode()) == nobody


def test_an_error_says_why_unless_it_is_in_plain_text() -> None:
    assert encode_error("no leader") == b'{"error":"no leader"}'
    assert error_text(b'{"error":"no leader"}') == "no leader"
    for plain in (b"lease name required\n", b"", b"null", b'{"error":7}', b"\xff"):
        assert error_text(plain) is None


@pytest.mark.parametrize(
    ("wire", "read"),
    [
        (SHARDS_WIRE.rstrip(), shard_statuses),
        (MEMBERS_WIRE.rstrip(), cluster_members),
        (LEASE_WIRE, lease),
    ],
)
def test_a_reply_cut_anywhere_is_noticed(wire: bytes, read: Callable[[bytes], object]) -> None:
    for cut in range(len(wire)):
        with pytest.raises(BadReply):
            read(wire[:cut])


def all_keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in all_keys(inner)}
    if isinstance(value, list):
        return {key for inner in value for key in all_keys(inner)}
    return set()


def without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: without(inner, key) for name, inner in value.items() if name != key}
    return [without(inner, key) for inner in value] if isinstance(value, list) else value


def with_odd(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {
            name: {"odd": 1} if name == key else with_odd(inner, key)
            for name, inner in value.items()
        }
    return [with_odd(inner, key) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("wire", "read"),
    [(SHARDS_WIRE, shard_statuses), (MEMBERS_WIRE, cluster_members), (LEASE_WIRE, lease)],
)
def test_every_known_key_is_needed_and_of_its_kind(
    wire: bytes, read: Callable[[bytes], object]
) -> None:
    whole = json.loads(wire)
    for key in all_keys(whole):
        for broken in (without(whole, key), with_odd(whole, key)):
            with pytest.raises(BadReply, match=key):
                read(json.dumps(broken).encode())


def test_keys_of_later_versions_are_passed_over() -> None:
    later = LEASE_WIRE.replace(b'{"name"', b'{"labels":[],"name"')
    assert lease(later) == LEASE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"size":1209', b'"size":-1'),
        (b'"size":1209', b'"size":9223372036854775808'),
        (b'"size":1209', b'"size":1.5'),
        (b'"id":6', b'"id":18446744073709551616'),
        (b'"id":6', b'"id":true'),
        (b'"2020-09-07T00:00:00Z"', b'"yesterday"'),
        (b'"2020-09-07T00:00:00Z"', b'"0001-01-01T00:00:00Z"'),
    ],
)
def test_numbers_and_times_out_of_range_are_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(BadReply):
        shard_statuses(SHARDS_WIRE.replace(old, new, 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "data", "meta", "owners", "name", "leader"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_arbitrary_json_is_refused_politely(value: object) -> None:
    for read in READERS:
        with contextlib.suppress(ShardkeeperError):
            read(json.dumps(value).encode())


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_politely(raw: bytes) -> None:
    for read in READERS:
        with contextlib.suppress(ShardkeeperError):
            read(raw)
    error_text(raw)


times = st.integers(-(2**62), 2**62)
owners = st.builds(
    OwnerStatus,
    st.integers(0, 2**64 - 1).map(NodeID),
    st.text(max_size=10),
    st.text(max_size=5),
    st.none() | times,
    st.integers(0, 2**63 - 1),
    st.text(max_size=10),
)
shards = st.builds(
    ShardStatus,
    id=st.integers(0, 2**64 - 1).map(ShardID),
    database=st.text(max_size=10),
    policy=st.text(max_size=10),
    replica_n=st.integers(0, 2**32),
    group_id=st.integers(0, 2**64 - 1).map(ShardGroupID),
    start_time_ns=times,
    end_time_ns=times,
    expire_time_ns=st.none() | times,
    truncated_at_ns=st.none() | times,
    owners=st.lists(owners, max_size=3).map(tuple),
)


@given(st.lists(shards, max_size=3).map(tuple))
def test_shards_go_both_ways(listed: tuple[ShardStatus, ...]) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # lone surrogates: no server has them
        assert shard_statuses(encode_shards(listed)) == listed


# --- what a real cluster said -------------------------------------------------------------


def recorded(name: str) -> tuple[int, bytes]:
    head, _, body = (RECORDED / name).read_bytes().partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def test_recorded_answers_are_read_and_written_alike() -> None:
    for name, read in (
        ("show-cluster.http", cluster_members),
        ("lease.http", lease),
    ):
        status, body = recorded(name)
        assert status == 200
        assert read(body).encode() == body
    for name in ("show-shards.http", "show-shards-verbose.http", "show-shards-null.http"):
        status, body = recorded(name)
        assert encode_shards(shard_statuses(body)) == body


def test_a_recorded_copy_that_no_node_has_is_not_found() -> None:
    [shard] = shard_statuses(recorded("show-shards-verbose.http")[1])
    assert {owner.err for owner in shard.owners} == {"not found"}
    [quiet] = shard_statuses(recorded("show-shards.http")[1])
    assert {owner.err for owner in quiet.owners} == {""}
    assert quiet.expire_time_ns is None


def test_a_recorded_lease_is_held_by_the_first_who_asked() -> None:
    status, body = recorded("lease-held.http")
    assert (status, lease(body).owner) == (409, 7)


def test_recorded_replies_to_commands_are_read() -> None:
    applied = decode_response(recorded("execute.http")[1])
    assert applied.index
    assert applied.error is None
    rejected = decode_response(recorded("execute-rejected.http")[1])
    assert rejected == Response(error="database name required")
    status, body = recorded("execute-garbage.http")
    assert (status, error_text(body)) == (400, "unable to unmarshal command: unexpected EOF")


def test_a_recorded_snapshot_is_written_again_byte_for_byte() -> None:
    _, body = recorded("snapshot.http")
    check_storable(body)
    assert encode_metastore(decode_metastore(body)) == body


def test_recorded_coordinator_replies_are_read() -> None:
    def read(name: str) -> bytes:
        return (RECORDED / name).read_bytes()

    write = partial(code_reply, asked=MessageType.WRITE_SHARD)
    remove = partial(err_reply, asked=MessageType.REMOVE_SHARD)
    assert parse_all(write, read("write-shard"), step=3) == CodeReply(0)
    listed = parse_all(shard_list, read("list-shards"), step=50)
    assert list(listed.shards) == [5001]
    assert listed.encode() == read("list-shards")
    assert parse_all(remove, read("remove-shard"), step=3) == ErrReply()
    assert parse_all(remove, read("remove-shard-again"), step=3) == ErrReply("shard not found")
