"""The metastore's bytes: real ones understood, any read as written, hostile ones refused."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resources.errors import BadReply, ShardkeeperError
from resources.model import (
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    RetentionPolicyInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
)
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import PortableData, decode_metastore, encode_metastore, trimmed
from tests.resources.protocol.metastores import DAY_NS, WEEK_NS, group, metastores
from tests.resources.protocol.vectors import CLUSTER_METASTORE, METASTORE


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
        (bytes(64 * 2**20 + 1), "at most 67108864 are accepted"),
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
