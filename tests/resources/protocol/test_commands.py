from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, PlanError, ShardkeeperError, UnsafeName
from resources.model import NodeID, ShardGroupID, ShardID
from resources.protocol import commands_pb2 as pb
from resources.protocol import meta_pb2
from resources.protocol.commands import (
    BY_TYPE,
    Command,
    CopyShardOwner,
    CreateContinuousQuery,
    CreateDatabase,
    CreateRetentionPolicy,
    CreateShardGroup,
    CreateUser,
    DeleteShardGroup,
    DropContinuousQuery,
    DropDatabase,
    DropRetentionPolicy,
    DropShard,
    DropUser,
    PruneShardGroups,
    RemoveShardOwner,
    Response,
    RetentionPolicySpec,
    SetAdminPrivilege,
    SetData,
    SetPrivilege,
    TruncateShardGroups,
    UpdateRetentionPolicy,
    UpdateUser,
    decode_command,
    decode_response,
    nothing_between,
)
from tests.resources.protocol.vectors import CLUSTER_METASTORE, METASTORE

DAY_NS = 86_400_000_000_000

VECTORS: dict[str, Command] = {
    "08 03 ba06 0a 0a08 74656c6567726166": CreateDatabase("telegraf"),
    "08 03 ba06 22 0a06 776974687270 12 18 0a03 727031"
    "10 8080a4c9ffc18901 18 8080bc8ac9d213 20 02": CreateDatabase(
        "withrp", RetentionPolicySpec("rp1", 7 * DAY_NS, DAY_NS, 2)
    ),
    "08 05 ca06 1e 0a08 74656c6567726166 12 10 0a02 7232"
    "10 00 18 8080bc8ac9d213 20 02 18 01": CreateRetentionPolicy(
        "telegraf", RetentionPolicySpec("r2", 0, DAY_NS, 2), default=True
    ),
    "08 09 ea06 1d 0a08 74656c6567726166 12 07 6175746f67656e"
    "18 808080c5ddf0959a16": CreateShardGroup("telegraf", "autogen", 1_600_000_000 * 10**9),
    "08 1e 9208 03 08 b960": DropShard(ShardID(12345)),
    "08 04 c206 06 0a04 6e6f6462": DropDatabase("nodb"),
    "08 20 a208 00": PruneShardGroups(),
    "08 21 aa08 04 08 0c 10 04": CopyShardOwner(ShardID(12), NodeID(4)),
    "08 22 b208 04 08 0c 10 04": RemoveShardOwner(ShardID(12), NodeID(4)),
    "08 0a f206 15 0a08 74656c6567726166 12 07 6175746f67656e 18 03": DeleteShardGroup(
        "telegraf", "autogen", ShardGroupID(3)
    ),
}
"""Sent to real meta nodes, or computed from the schema."""

uints = st.integers(0, 2**64 - 1)
ints = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text("abcdé_ -.", min_size=3, max_size=20)
specs = st.builds(RetentionPolicySpec, names, ints, ints, st.integers(0, 2**32 - 1))
commands = st.one_of(
    st.builds(CreateDatabase, names, st.none() | specs),
    st.builds(DropDatabase, texts),
    st.builds(CreateRetentionPolicy, names, specs, st.booleans()),
    st.builds(DropRetentionPolicy, texts, texts),
    st.builds(
        UpdateRetentionPolicy,
        texts,
        texts,
        st.none() | names,
        st.none() | ints,
        st.none() | st.integers(0, 2**32 - 1),
        st.none() | ints,
        st.booleans(),
    ),
    st.builds(CreateShardGroup, texts, texts, ints),
    st.builds(DeleteShardGroup, texts, texts, uints.map(ShardGroupID)),
    st.builds(CreateContinuousQuery, texts, texts, texts),
    st.builds(DropContinuousQuery, texts, texts),
    st.builds(CreateUser, texts, texts, st.booleans()),
    st.builds(DropUser, texts),
    st.builds(UpdateUser, texts, texts),
    st.builds(SetPrivilege, texts, texts, st.integers(0, 3)),
    st.builds(SetAdminPrivilege, texts, st.booleans()),
    st.just(SetData(CLUSTER_METASTORE)),
    st.builds(DropShard, uints.map(ShardID)),
    st.builds(TruncateShardGroups, ints),
    st.just(PruneShardGroups()),
    st.builds(CopyShardOwner, uints.map(ShardID), uints.map(NodeID)),
    st.builds(RemoveShardOwner, uints.map(ShardID), uints.map(NodeID)),
)


@pytest.mark.parametrize(("wire", "command"), VECTORS.items(), ids=lambda value: repr(value)[:40])
def test_both_directions_are_those_of_a_cluster(wire: str, command: Command) -> None:
    assert command.encode() == bytes.fromhex(wire)
    assert decode_command(bytes.fromhex(wire)) == command


def test_set_data_carries_the_metastore_as_it_is() -> None:
    wire = bytes.fromhex("08 11 aa07 8b01 0a 8801") + CLUSTER_METASTORE
    assert len(CLUSTER_METASTORE) == 0x88
    assert SetData(CLUSTER_METASTORE).encode() == wire
    assert decode_command(wire) == SetData(CLUSTER_METASTORE)


@given(commands)
def test_both_directions_agree(command: Command) -> None:
    assert decode_command(command.encode()) == command


@pytest.mark.parametrize("wire", [*VECTORS, SetData(CLUSTER_METASTORE).encode().hex()])
def test_a_command_cut_anywhere_is_refused(wire: str) -> None:
    whole = bytes.fromhex(wire)
    for cut in range(len(whole)):
        with pytest.raises(BadReply):
            decode_command(whole[:cut])


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused_politely(raw: bytes) -> None:
    with contextlib.suppress(ShardkeeperError):
        decode_command(raw)
    with contextlib.suppress(ShardkeeperError):
        decode_response(raw)


@given(commands, st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_refused_politely_or_another_command(
    command: Command, at: int, flip: int
) -> None:
    raw = bytearray(command.encode())
    raw[at % len(raw)] ^= flip
    with contextlib.suppress(ShardkeeperError):
        assert decode_command(bytes(raw)) is not None


# --- what would kill the meta nodes -------------------------------------------------------


@pytest.mark.parametrize("type_", [0, 1, 2, 7, 19, 20, 21, 23, 24, 25, 28, 29, 35, 100, -1])
def test_types_that_panic_or_change_the_membership_are_not_known(type_: int) -> None:
    raw = pb.Command(type=type_, drop_database=pb.DropDatabaseCommand(Name="x"))
    with pytest.raises(BadReply, match=f"unknown type {type_}"):
        decode_command(raw.SerializeToString())
    assert type_ not in BY_TYPE


def test_a_command_without_a_type_of_its_own_is_never_written() -> None:
    class SetDefaultRetentionPolicy(DropRetentionPolicy, frozen=True):
        TYPE = 7

    class Impostor(DropDatabase, frozen=True):
        pass

    for command in (Command(), SetDefaultRetentionPolicy("d", "r"), Impostor("d")):
        with pytest.raises(PlanError, match="is not a command"):
            command.encode()


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        ("08 03", "one payload"),  # no payload
        ("08 03 c206 06 0a04 6e6f6462", "one payload"),  # another's payload
        ("08 04 c206 06 0a04 6e6f6462 a208 00", "one payload"),  # two
        ("08 04 c206 00", "lacks required fields"),
        ("08 09 ea06 06 0a01 64 1201 72", "lacks required fields"),
        ("08 11 aa07 00", "lacks required fields"),
        ("08 11 aa07 04 0a02 0801", "lacks required fields"),  # SetData of an incomplete Data
        ("c206 06 0a04 6e6f6462", "lacks required fields"),  # no type
        ("08 04 c206 08 0a04 6e6f6462 1801", "unknown fields"),
        ("08 04 10 01 c206 06 0a04 6e6f6462", "unknown fields"),
        ("08 04 c206 06 0a04 6eff6462", "not UTF-8|not a protobuf"),
    ],
)
def test_what_a_meta_node_would_take_and_panic_on_is_refused(wire: str, complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint):
        decode_command(bytes.fromhex(wire))


def changed(**fields: object) -> bytes:
    data = meta_pb2.Data.FromString(CLUSTER_METASTORE)
    for name, value in fields.items():
        if isinstance(value, int):
            setattr(data, name, value)
        else:
            data.ClearField(name)  # type: ignore[arg-type]
    return data.SerializePartialToString()


def doubled(name: str) -> bytes:
    data = meta_pb2.Data.FromString(CLUSTER_METASTORE)
    group = data.Databases[0].RetentionPolicies[0].ShardGroups[0]
    match name:
        case "shard":
            group.Shards.add().CopyFrom(group.Shards[0])
        case "group":
            data.Databases[0].RetentionPolicies[0].ShardGroups.add().CopyFrom(group)
            data.Databases[0].RetentionPolicies[0].ShardGroups[1].Shards[0].ID = 0
        case "database":
            data.Databases.add(Name="d", DefaultRetentionPolicy="")
        case "legacy":
            data.Nodes.add(ID=4)
        case _:
            data.DataNodes.add().CopyFrom(data.DataNodes[0])
    return data.SerializeToString()


@pytest.mark.parametrize(
    ("meta", "complaint"),
    [
        (b"", "lacks required fields"),
        (b"\xff", "not a protobuf message"),
        (changed(Index=None), "lacks required fields"),
        (changed(MetaNodes=None), "names no meta node"),
        (changed(DataNodes=None), "owners that are not data nodes"),
        (changed(MaxShardID=0), "shard ID beyond the highest"),
        (changed(MaxShardGroupID=0), "group ID beyond the highest"),
        (changed(MaxNodeID=4), "node ID beyond the highest"),
        (doubled("shard"), "a shard ID twice"),
        (doubled("group"), "a shard group ID twice"),
        (doubled("database"), "a database twice"),
        (doubled("node"), "a data node twice"),
        (doubled("legacy"), "before 0.10"),
        (METASTORE, "names no meta node"),
    ],
)
def test_metadata_that_a_cluster_would_not_survive_is_not_written(
    meta: bytes, complaint: str
) -> None:
    with pytest.raises(PlanError, match=complaint):
        SetData(meta).encode()


@pytest.mark.parametrize(
    "command",
    [
        CreateDatabase("../etc"),
        CreateDatabase(""),
        CreateDatabase("db", RetentionPolicySpec("a/b", 0, 0, 1)),
        CreateRetentionPolicy("a\\b", RetentionPolicySpec("r", 0, 0, 1)),
        CreateRetentionPolicy("d", RetentionPolicySpec("\0", 0, 0, 1)),
        UpdateRetentionPolicy("d", "r", new_policy=".."),
    ],
)
def test_names_that_would_lead_outside_are_not_created(command: Command) -> None:
    with pytest.raises(UnsafeName):
        command.encode()


@pytest.mark.parametrize(
    "command",
    [
        DropShard(ShardID(-1)),
        DropShard(ShardID(2**64)),
        CreateShardGroup("d", "r", 2**63),
        SetPrivilege("u", "d", 2**31),
        CreateDatabase("d", RetentionPolicySpec("r", 0, 0, 2**32)),
        DropDatabase("\ud800"),
    ],
)
def test_what_does_not_fit_is_refused(command: Command) -> None:
    with pytest.raises(PlanError, match="is out of range"):
        command.encode()


def test_hashes_and_metadata_are_in_no_repr() -> None:
    shown = repr((CreateUser("u", "$2a$hash", admin=True), UpdateUser("u", "$2a$hash")))
    assert "hash" not in shown
    assert repr(SetData(CLUSTER_METASTORE)) == "SetData()"


# --- replies ------------------------------------------------------------------------------

APPLIED = bytes.fromhex("08 00 18 0b")
REJECTED = bytes.fromhex("08 00 12 16 6461746162617365206e616d65207265717569726564")


def test_success_has_an_index_and_is_not_ok() -> None:
    assert decode_response(APPLIED) == Response(index=11)
    assert Response(index=11).encode() == APPLIED


def test_a_rejection_has_a_reason() -> None:
    assert decode_response(REJECTED) == Response(error="database name required")
    assert Response(error="database name required").encode() == REJECTED


@pytest.mark.parametrize("raw", [b"", b"\x08\x00", b"\x18\x0b", b"\x08\x00\x12\x02\xff\xfe"])
def test_a_reply_that_says_nothing_is_refused(raw: bytes) -> None:
    with pytest.raises(BadReply):
        decode_response(raw)


@pytest.mark.parametrize("whole", [APPLIED, REJECTED])
def test_a_reply_cut_anywhere_is_noticed(whole: bytes) -> None:
    for cut in range(len(whole)):
        with pytest.raises(BadReply):
            decode_response(whole[:cut])


def test_only_the_next_index_proves_that_nobody_came_between() -> None:
    assert nothing_between(51, 52)
    assert not nothing_between(51, 54)
    assert not nothing_between(51, 51)
