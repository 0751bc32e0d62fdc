from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, NothingMatches, ShardkeeperError, UnsafeName
from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
    SubscriptionInfo,
    UserInfo,
    UserPrivilege,
)
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import PortableData, decode_metastore, encode_metastore, trimmed
from tests.resources.protocol.vectors import CLUSTER_METASTORE, METASTORE, PORTABLE

WEEK_NS = 604_800_000_000_000
DAY_NS = 86_400_000_000_000

# --- hypothesis ---------------------------------------------------------------------------

int64s = st.integers(-(2**63), 2**63 - 1)
uint64s = st.integers(0, 2**64 - 1)
unset_or = st.none() | int64s.filter(bool)
texts = st.text(max_size=8)


def tuples(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=2).map(tuple)


shards = st.builds(
    ShardInfo, uint64s.map(ShardID), tuples(st.builds(ShardOwner, uint64s.map(NodeID)))
)
groups = st.builds(
    ShardGroupInfo,
    uint64s.map(ShardGroupID),
    int64s,
    int64s,
    deleted_at_ns=unset_or,
    truncated_at_ns=unset_or,
    shards=tuples(shards),
)
policies = st.builds(
    RetentionPolicyInfo,
    texts,
    int64s,
    int64s,
    st.integers(0, 2**32 - 1),
    tuples(groups),
    tuples(st.builds(SubscriptionInfo, texts, texts, tuples(texts))),
)
databases = st.builds(
    DatabaseInfo,
    texts,
    texts,
    tuples(policies),
    tuples(st.builds(ContinuousQueryInfo, texts, texts)),
)
nodes = st.builds(NodeInfo, uint64s.map(NodeID), texts, texts)
privileges = st.builds(UserPrivilege, texts, st.integers(-(2**31), 2**31 - 1))
users = st.builds(UserInfo, texts, texts, st.booleans(), tuples(privileges))
metastores = st.builds(
    Metastore,
    term=uint64s,
    index=uint64s,
    cluster_id=uint64s,
    databases=tuples(databases),
    users=tuples(users),
    data_nodes=tuples(nodes),
    meta_nodes=tuples(nodes),
    max_node_id=uint64s,
    max_shard_group_id=uint64s,
    max_shard_id=uint64s,
)


# --- whole metastores ---------------------------------------------------------------------


def group(group_id: int, start_s: int, end_s: int) -> ShardGroupInfo:
    """As a single server keeps it: one shard of the same number, without owners."""
    return ShardGroupInfo(
        ShardGroupID(group_id),
        start_s * 10**9,
        end_s * 10**9,
        deleted_at_ns=None,
        truncated_at_ns=None,
        shards=(ShardInfo(ShardID(group_id)),),
    )


def test_a_real_metastore_is_understood() -> None:
    telegraf = DatabaseInfo(
        "telegraf",
        "autogen",
        (
            RetentionPolicyInfo(
                "autogen",
                0,
                WEEK_NS,
                1,
                (
                    group(1, 1_599_436_800, 1_600_041_600),
                    group(2, 1_600_041_600, 1_600_646_400),
                    group(3, 1_600_646_400, 1_601_251_200),
                ),
            ),
            RetentionPolicyInfo(
                "short",
                0,
                DAY_NS,
                1,
                (
                    group(4, 1_599_696_000, 1_599_782_400),
                    group(5, 1_599_782_400, 1_599_868_800),
                ),
            ),
        ),
    )
    other = DatabaseInfo(
        "other",
        "autogen",
        (RetentionPolicyInfo("autogen", 0, WEEK_NS, 1, (group(6, 1_599_436_800, 1_600_041_600),)),),
    )
    assert decode_metastore(METASTORE) == Metastore(
        term=0,
        index=10,
        cluster_id=8_590_133_065_470_893_626,
        databases=(telegraf, other),
        users=(),
        data_nodes=(),
        meta_nodes=(),
        max_node_id=0,
        max_shard_group_id=6,
        max_shard_id=6,
    )


def test_a_cluster_is_understood() -> None:
    metastore = decode_metastore(CLUSTER_METASTORE)
    [place] = metastore.places()
    assert place.shard == ShardInfo(ShardID(1), (ShardOwner(NodeID(4)), ShardOwner(NodeID(5))))
    assert metastore.data_nodes == (
        NodeInfo(NodeID(4), "a:8086", "a:8088"),
        NodeInfo(NodeID(5), "b:8086", "b:8088"),
    )
    assert metastore.meta_nodes == (NodeInfo(NodeID(1), "m:8091", "m:8089"),)


@pytest.mark.parametrize("wire", [METASTORE, CLUSTER_METASTORE], ids=["server", "cluster"])
def test_decoding_and_encoding_gives_the_same_bytes(wire: bytes) -> None:
    assert encode_metastore(decode_metastore(wire)) == wire
    message = pb.Data()
    message.ParseFromString(wire)
    assert message.SerializeToString() == wire


@given(metastores)
def test_both_directions_agree(metastore: Metastore) -> None:
    wire = encode_metastore(metastore)
    assert decode_metastore(wire) == metastore
    assert encode_metastore(decode_metastore(wire)) == wire


@given(metastores)
def test_without_its_groups_everything_else_is_the_same(metastore: Metastore) -> None:
    bare = decode_metastore(encode_metastore(metastore), groups=False)
    assert list(bare.places()) == []
    databases = tuple(
        replace(
            db,
            retention_policies=tuple(replace(rp, shard_groups=()) for rp in db.retention_policies),
        )
        for db in metastore.databases
    )
    assert bare == replace(metastore, databases=databases)


def test_legacy_forms_stand_for_todays() -> None:
    data = pb.Data()
    data.ParseFromString(CLUSTER_METASTORE)
    data.Nodes.add(ID=9, Addr="old:8086")
    shard = data.Databases[0].RetentionPolicies[0].ShardGroups[0].Shards[0]
    shard.OwnerIDs.extend([7, 8])
    metastore = decode_metastore(data.SerializeToString())
    assert metastore.data_nodes == (NodeInfo(NodeID(9), "old:8086", ""),)
    [place] = metastore.places()
    assert [owner.node_id for owner in place.shard.owners] == [7, 8]


def test_the_generated_code_is_that_of_the_schema(tmp_path: Path) -> None:
    root, out = Path(__file__).parents[3], tmp_path / "descriptors"
    command = ["-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={out}"]
    subprocess.run(
        [sys.executable, *command, "resources/protocol/meta.proto"], cwd=root, check=True
    )
    [schema] = FileDescriptorSet.FromString(out.read_bytes()).file
    for message in schema.message_type:
        for field in message.field:
            field.ClearField("json_name")
    generated = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    assert generated == schema


# --- hostile bytes ------------------------------------------------------------------------


@pytest.mark.fault(22, 94)
@pytest.mark.parametrize("cut", range(len(METASTORE)))
def test_a_metastore_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(BadReply):
        decode_metastore(METASTORE[:cut])


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "lacks required fields: Term"),
        (METASTORE + b"\x2a\x00", r"Databases\[2\].Name"),
        (METASTORE + b"\x2a\x05\x0a\x01\xff\x12\x00", "not UTF-8"),
        (METASTORE + b"\x2a\xff\xff\xff\xff\x0f", "not a protobuf message"),
        (METASTORE + b"\x0b" * 100_000, "not a protobuf message"),
        (METASTORE + b"\xfb\x3e" * 100_000, "not a protobuf message"),
        (b"\x0a\x01a" + METASTORE[2:], "lacks required fields: Term"),
        (bytes(64 * 2**20 + 1), "at most 67108864 are believed"),
    ],
    ids=["empty", "inner", "utf8", "length", "groups", "unknown groups", "wire type", "size"],
)
def test_a_metastore_that_breaks_its_rules_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint):
        decode_metastore(raw)


@pytest.mark.fault(94)
@given(st.binary(max_size=30), st.integers(0, len(CLUSTER_METASTORE)))
def test_damage_is_refused_politely_or_understood(noise: bytes, at: int) -> None:
    raw = CLUSTER_METASTORE[:at] + noise + CLUSTER_METASTORE[at + len(noise) :]
    with contextlib.suppress(BadReply):
        decode_metastore(raw)
    with contextlib.suppress(ShardkeeperError):
        trimmed(raw, database="d")


@pytest.mark.fault(94)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_politely(raw: bytes) -> None:
    with contextlib.suppress(BadReply):
        decode_metastore(raw)
    with contextlib.suppress(BadReply):
        PortableData.decode(raw)


# --- .meta files --------------------------------------------------------------------------


def test_a_real_meta_file_reads_and_writes_alike() -> None:
    assert PortableData.decode(PORTABLE) == PortableData(METASTORE, 0)
    assert PortableData(METASTORE, 0).encode() == PORTABLE
    cluster = PortableData(CLUSTER_METASTORE, 5)
    assert cluster.encode() == b"\x0a\x88\x01" + CLUSTER_METASTORE + b"\x10\x05"


@pytest.mark.parametrize("cut", range(len(PORTABLE)))
def test_a_meta_file_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(BadReply):
        PortableData.decode(PORTABLE[:cut])


def test_a_meta_file_does_not_show_its_hashes() -> None:
    assert "telegraf" not in repr(PortableData(METASTORE))


# --- imports ------------------------------------------------------------------------------


def shard_ids(raw: bytes) -> list[int]:
    return [place.shard_id for place in decode_metastore(raw).places()]


def full_server() -> pb.Data:
    """The real metastore with everything on it that an import must not carry."""
    data = pb.Data()
    data.ParseFromString(METASTORE)
    data.Users.add(Name="root", Hash="$2a$", Admin=True)
    data.DataNodes.add(ID=1, Addr="a:8086", TCPAddr="a:8088")
    data.MetaNodes.add(ID=2, Addr="a:8091", TCPAddr="a:8089")
    db = data.Databases[0]
    db.ContinuousQueries.add(Name="cq", Query="CREATE CONTINUOUS QUERY …")
    for rp in db.RetentionPolicies:
        rp.FutureWriteLimit, rp.PastWriteLimit = 0, 3600
        rp.Subscriptions.add(Name="s", Mode="ALL", Destinations=["udp://h:9"])
        for group in rp.ShardGroups:
            group.Shards[0].OwnerIDs.append(1)
            group.Shards[0].Owners.add(NodeID=1)
    return data


def test_an_import_carries_one_database_and_its_groups_only() -> None:
    plain = decode_metastore(METASTORE).databases[0]
    limited = [replace(rp, past_write_limit_ns=3600) for rp in plain.retention_policies]
    got = decode_metastore(trimmed(full_server().SerializeToString(), database="telegraf"))
    assert got.databases == (replace(plain, retention_policies=tuple(limited)),)
    assert (got.users, got.data_nodes, got.meta_nodes) == ((), (), ())
    assert (got.max_shard_group_id, got.max_shard_id) == (6, 6)


def test_an_import_carries_only_the_policies_asked_for() -> None:
    raw = trimmed(METASTORE, database="telegraf", policies=["short"])
    [db] = decode_metastore(raw).databases
    assert [rp.name for rp in db.retention_policies] == ["short"]
    assert db.default_retention_policy == "short"
    assert shard_ids(raw) == [4, 5]


def test_an_import_carries_only_groups_of_the_shards_asked_for() -> None:
    raw = trimmed(METASTORE, database="telegraf", shards=[ShardID(2), ShardID(5)])
    assert shard_ids(raw) == [2, 5]
    assert decode_metastore(raw).databases[0].default_retention_policy == "autogen"


def test_a_group_keeps_all_its_shards_in_order() -> None:
    data = full_server()
    group = data.Databases[0].RetentionPolicies[0].ShardGroups[1]
    group.Shards.insert(0, pb.ShardInfo(ID=30))
    raw = trimmed(data.SerializeToString(), database="telegraf", shards=[ShardID(2)])
    assert shard_ids(raw) == [30, 2]


def test_deleted_groups_stay_behind() -> None:
    data = full_server()
    data.Databases[0].RetentionPolicies[0].ShardGroups[1].DeletedAt = 1
    raw = data.SerializeToString()
    assert shard_ids(trimmed(raw, database="telegraf")) == [1, 3, 4, 5]
    with pytest.raises(NothingMatches, match="'telegraf' has no live shard 2"):
        trimmed(raw, database="telegraf", shards=[ShardID(2)])


def test_a_truncated_group_stays_truncated() -> None:
    data = full_server()
    data.Databases[0].RetentionPolicies[0].ShardGroups[1].TruncatedAt = 1_600_100_000_000_000_000
    got = decode_metastore(trimmed(data.SerializeToString(), database="telegraf"))
    groups = got.databases[0].retention_policies[0].shard_groups
    assert [group.truncated_at_ns for group in groups] == [None, 1_600_100_000_000_000_000, None]


def test_durations_can_be_made_infinite() -> None:
    data = full_server()
    data.Databases[0].RetentionPolicies[1].Duration = DAY_NS
    raw = data.SerializeToString()
    for durations, expected in [(None, DAY_NS), ({"short": 0}, 0), ({"short": 7}, 7)]:
        got = decode_metastore(trimmed(raw, database="telegraf", durations=durations))
        assert [rp.duration_ns for rp in got.databases[0].retention_policies] == [0, expected]


def test_write_limits_come_along_and_older_servers_pass_over_them() -> None:
    raw = full_server().SerializeToString()
    got = pb.Data()
    got.ParseFromString(trimmed(raw, database="telegraf"))
    rp = got.Databases[0].RetentionPolicies[0]
    assert (rp.HasField("FutureWriteLimit"), rp.PastWriteLimit) == (True, 3600)


def test_fields_of_a_later_version_survive() -> None:
    later = METASTORE + b"\xa2\x06\x03new"  # field 100 of Data
    message = pb.Data()
    message.ParseFromString(later)
    assert message.SerializeToString() == later
    policy = pb.RetentionPolicyInfo(Name="rp", Duration=0, ShardGroupDuration=1, ReplicaN=1)
    rp = policy.SerializeToString() + b"\xa2\x06\x03new"
    data = pb.Data()
    data.ParseFromString(METASTORE)
    data.Databases[1].RetentionPolicies[0].ParseFromString(rp)
    assert rp in trimmed(data.SerializeToString(), database="other")


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"database": "nope"}, "no database 'nope'"),
        ({"database": ""}, "no database ''"),
        ({"database": "other", "policies": ["short"]}, "'other' has no retention policy 'short'"),
        ({"database": "other", "shards": [1]}, "'other' has no live shard 1"),
        ({"database": "other", "durations": {"short": 0}}, "not kept: 'short'"),
        (
            {"database": "telegraf", "policies": ["short"], "shards": [1, 4]},
            "'telegraf' has no live shard 1",
        ),
    ],
)
def test_what_is_not_there_cannot_be_imported(asked: dict[str, object], complaint: str) -> None:
    with pytest.raises(NothingMatches, match=complaint):
        trimmed(METASTORE, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../x", "..", "a\nb"])
def test_hostile_names_cannot_be_imported(name: str) -> None:
    data = full_server()
    data.Databases[1].Name = name
    with pytest.raises(UnsafeName):
        trimmed(data.SerializeToString(), database=name)
    data.Databases[0].RetentionPolicies[0].Name = name
    with pytest.raises(UnsafeName):
        trimmed(data.SerializeToString(), database="telegraf")
    # What stays behind may be called anything.
    assert shard_ids(
        trimmed(data.SerializeToString(), database="telegraf", policies=["short"])
    ) == [4, 5]


def test_half_a_metastore_cannot_be_imported() -> None:
    with pytest.raises(BadReply):
        trimmed(METASTORE[:-2], database="telegraf")
