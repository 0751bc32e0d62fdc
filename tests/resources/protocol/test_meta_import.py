"""`.meta` files, and the part of a metastore that a server takes in with them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.errors import BadReply, NothingMatches, UnsafeName
from resources.model import ShardID
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import PortableData, decode_metastore, trimmed
from tests.resources.protocol.metastores import DAY_NS
from tests.resources.protocol.vectors import CLUSTER_METASTORE, METASTORE, PORTABLE


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
