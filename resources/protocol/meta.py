"""The metastore: protobuf `Data` ↔ `Metastore`, portable `.meta` files, and imports.

Source: influxdb services/meta/internal/meta.proto and services/meta/data.go;
cmd/influxd/backup_util (PortablePacker).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError, Message
from msgspec import Struct

from resources.errors import BadReply, NothingMatches
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
from resources.protocol.influxql import check_name
from resources.protocol.snapshotter import MAX_META_BYTES
from resources.values import repr_without

M = TypeVar("M", bound=Message)


# --- reading ------------------------------------------------------------------------------


def decode_metastore(raw: bytes, *, groups: bool = True) -> Metastore:
    """Read a serialized `Data`.

    Legacy forms are read as in Go: `Nodes` replaces `DataNodes`, `OwnerIDs` replaces `Owners`.
    Names are unchecked: call `check_name` before one becomes a path.

    Args:
        groups: whether to read shard groups; thousands of them take most of the time.

    Raises:
        BadReply: the message does not parse, lacks a required field, has text that is not
            UTF-8, or exceeds MAX_META_BYTES.
    """
    return _decoded(bytes(raw), groups=groups)


@lru_cache(maxsize=2)
def _decoded(raw: bytes, *, groups: bool) -> Metastore:
    """Cached by the bytes, since several callers read a metastore, and each reads it twice."""
    message = parse_strictly(pb.Data, raw, "metastore")
    if not groups:
        for db in message.Databases:
            for rp in db.RetentionPolicies:
                rp.ClearField("ShardGroups")
    return Metastore(
        term=message.Term,
        index=message.Index,
        cluster_id=message.ClusterID,
        databases=tuple(_database(db) for db in message.Databases),
        users=tuple(_user(user) for user in message.Users),
        data_nodes=tuple(_node(node) for node in message.Nodes or message.DataNodes),
        meta_nodes=tuple(_node(node) for node in message.MetaNodes),
        max_node_id=message.MaxNodeID,
        max_shard_group_id=message.MaxShardGroupID,
        max_shard_id=message.MaxShardID,
    )


def parse_strictly(kind: Callable[[], M], raw: bytes, name: str) -> M:
    """Parse a protobuf message and require its required fields, at every depth.

    Raises:
        BadReply: the message does not parse, lacks a field, or exceeds MAX_META_BYTES.
    """
    if len(raw) > MAX_META_BYTES:
        raise BadReply(f"{name} of {len(raw)} bytes, at most {MAX_META_BYTES} are accepted")
    message = kind()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise BadReply(
            f"{name} of {len(raw)} bytes is not a protobuf message of its kind"
        ) from None
    # Parsing alone does not detect missing fields.
    if not message.IsInitialized():
        unrestorable = ", ".join(cast(Any, message).FindInitializationErrors()[:5])
        raise BadReply(f"{name} lacks required fields: {unrestorable}")
    return message


def _text(value: str) -> str:
    # The parser returns proto2 strings that are not UTF-8 as bytes.
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadReply("metastore holds text that is not UTF-8")
    return value


def _unset_at_zero(time_ns: int) -> int | None:
    return time_ns or None


def _node(message: pb.NodeInfo) -> NodeInfo:
    return NodeInfo(NodeID(message.ID), _text(message.Addr), _text(message.TCPAddr))


def _database(message: pb.DatabaseInfo) -> DatabaseInfo:
    return DatabaseInfo(
        name=_text(message.Name),
        default_retention_policy=_text(message.DefaultRetentionPolicy),
        retention_policies=tuple(_policy(rp) for rp in message.RetentionPolicies),
        continuous_queries=tuple(
            ContinuousQueryInfo(_text(cq.Name), _text(cq.Query)) for cq in message.ContinuousQueries
        ),
    )


def _policy(message: pb.RetentionPolicyInfo) -> RetentionPolicyInfo:
    return RetentionPolicyInfo(
        name=_text(message.Name),
        duration_ns=message.Duration,
        shard_group_duration_ns=message.ShardGroupDuration,
        replica_n=message.ReplicaN,
        shard_groups=tuple(_group(group) for group in message.ShardGroups),
        subscriptions=tuple(
            SubscriptionInfo(
                _text(subscription.Name),
                _text(subscription.Mode),
                tuple(_text(destination) for destination in subscription.Destinations),
            )
            for subscription in message.Subscriptions
        ),
        future_write_limit_ns=message.FutureWriteLimit,
        past_write_limit_ns=message.PastWriteLimit,
    )


def _group(message: pb.ShardGroupInfo) -> ShardGroupInfo:
    return ShardGroupInfo(
        id=ShardGroupID(message.ID),
        start_time_ns=message.StartTime,
        end_time_ns=message.EndTime,
        deleted_at_ns=_unset_at_zero(message.DeletedAt),
        truncated_at_ns=_unset_at_zero(message.TruncatedAt),
        shards=tuple(_shard(shard) for shard in message.Shards),
    )


def _shard(message: pb.ShardInfo) -> ShardInfo:
    node_ids = list(message.OwnerIDs) or [owner.NodeID for owner in message.Owners]
    return ShardInfo(ShardID(message.ID), tuple(ShardOwner(NodeID(id_)) for id_ in node_ids))


def _user(message: pb.UserInfo) -> UserInfo:
    return UserInfo(
        name=_text(message.Name),
        hash=_text(message.Hash),
        admin=message.Admin,
        privileges=tuple(
            UserPrivilege(_text(grant.Database), grant.Privilege) for grant in message.Privileges
        ),
    )


# --- writing ------------------------------------------------------------------------------


def encode_metastore(metastore: Metastore) -> bytes:
    """Serialize a `Data` in its current form, byte-identical to Go's for the fields we keep."""
    return pb.Data(
        Term=metastore.term,
        Index=metastore.index,
        ClusterID=metastore.cluster_id,
        Databases=[_database_message(db) for db in metastore.databases],
        Users=[
            pb.UserInfo(
                Name=user.name,
                Hash=user.hash,
                Admin=user.admin,
                Privileges=[
                    pb.UserPrivilege(Database=grant.database, Privilege=grant.privilege)
                    for grant in user.privileges
                ],
            )
            for user in metastore.users
        ],
        MaxNodeID=metastore.max_node_id,
        MaxShardGroupID=metastore.max_shard_group_id,
        MaxShardID=metastore.max_shard_id,
        DataNodes=_node_messages(metastore.data_nodes),
        MetaNodes=_node_messages(metastore.meta_nodes),
    ).SerializeToString()


def _node_messages(nodes: Iterable[NodeInfo]) -> list[pb.NodeInfo]:
    return [pb.NodeInfo(ID=node.id, Addr=node.addr, TCPAddr=node.tcp_addr) for node in nodes]


def _database_message(db: DatabaseInfo) -> pb.DatabaseInfo:
    return pb.DatabaseInfo(
        Name=db.name,
        DefaultRetentionPolicy=db.default_retention_policy,
        RetentionPolicies=[_policy_message(rp) for rp in db.retention_policies],
        ContinuousQueries=[
            pb.ContinuousQueryInfo(Name=cq.name, Query=cq.query) for cq in db.continuous_queries
        ],
    )


def _policy_message(rp: RetentionPolicyInfo) -> pb.RetentionPolicyInfo:
    return pb.RetentionPolicyInfo(
        Name=rp.name,
        Duration=rp.duration_ns,
        ShardGroupDuration=rp.shard_group_duration_ns,
        ReplicaN=rp.replica_n,
        ShardGroups=[_group_message(group) for group in rp.shard_groups],
        Subscriptions=[
            pb.SubscriptionInfo(
                Name=subscription.name,
                Mode=subscription.mode,
                Destinations=subscription.destinations,
            )
            for subscription in rp.subscriptions
        ],
        # Servers before 1.12 do not write limits.
        FutureWriteLimit=rp.future_write_limit_ns or None,
        PastWriteLimit=rp.past_write_limit_ns or None,
    )


def _group_message(group: ShardGroupInfo) -> pb.ShardGroupInfo:
    return pb.ShardGroupInfo(
        ID=group.id,
        StartTime=group.start_time_ns,
        EndTime=group.end_time_ns,
        DeletedAt=group.deleted_at_ns or 0,
        Shards=[
            pb.ShardInfo(
                ID=shard.id, Owners=[pb.ShardOwner(NodeID=owner.node_id) for owner in shard.owners]
            )
            for shard in group.shards
        ],
        TruncatedAt=group.truncated_at_ns or None,
    )


# --- .meta files --------------------------------------------------------------------------


class PortableData(Struct, frozen=True):
    """The content of a portable backup's `.meta` file: a `Data`, and the highest node ID.

    Wire, protobuf: 1 Data, bytes, required | 2 MaxNodeID, uint64, required (0 on one server)
    """

    meta: bytes
    max_node_id: int = 0

    __repr__ = repr_without("meta")

    def encode(self) -> bytes:
        return pb.PortableData(Data=self.meta, MaxNodeID=self.max_node_id).SerializeToString()

    @classmethod
    def decode(cls, raw: bytes) -> PortableData:
        """Read a `.meta` file, without decoding its `meta`.

        Raises:
            BadReply: the message does not parse.
        """
        message = parse_strictly(pb.PortableData, raw, "portable metastore")
        return cls(message.Data, message.MaxNodeID)


# --- importing ----------------------------------------------------------------------------


def trimmed(
    meta: bytes,
    *,
    database: str,
    policies: Collection[str] | None = None,
    shards: Collection[ShardID] | None = None,
    durations: Mapping[str, int] | None = None,
) -> bytes:
    """Reduce a `Data` to the parts that a server needs to import one database.

    A group is kept if it is not deleted and has one of `shards`. It is kept whole, since the
    number and order of its shards decide where a series goes. Owners, users, nodes, continuous
    queries and subscriptions are removed. If the default policy is removed, the only remaining
    policy becomes the default; if several remain, there is none.

    Args:
        meta: a serialized `Data`.
        database: the database to keep.
        policies: the policies to keep; None: all.
        shards: the shards whose groups to keep; None: all.
        durations: new durations in ns by policy; 0: no expiry.

    Raises:
        BadReply: `meta` is not a strict `Data`.
        NothingMatches: the database, or one of the policies or shards, does not exist.
        UnsafeName: the database or a policy has a name that no server accepts.
    """
    source = parse_strictly(pb.Data, meta, "metastore")
    found = next((db for db in source.Databases if db.Name == database), None)
    if found is None:
        raise NothingMatches(f"the metastore has no database {database!a}")
    check_name("database", database)
    wanted = {rp.Name for rp in found.RetentionPolicies} if policies is None else set(policies)
    kept = [_trimmed_policy(rp, shards) for rp in found.RetentionPolicies if rp.Name in wanted]
    for rp in kept:
        check_name("retention policy", _text(rp.Name))
    by_name = {rp.Name: rp for rp in kept}
    _require(wanted - by_name.keys(), f"database {database!a} has no retention policy")
    _require(set(durations or ()) - by_name.keys(), "a duration was given for a policy not kept:")
    for name, duration_ns in (durations or {}).items():
        by_name[name].Duration = duration_ns
    if shards is not None:
        there = {shard.ID for rp in kept for group in rp.ShardGroups for shard in group.Shards}
        _require(set(shards) - there, f"database {database!a} has no live shard")
    default = found.DefaultRetentionPolicy
    if default not in by_name:
        default = kept[0].Name if len(kept) == 1 else ""
    result = pb.Data(
        Term=source.Term,
        Index=source.Index,
        ClusterID=source.ClusterID,
        Databases=[
            pb.DatabaseInfo(Name=database, DefaultRetentionPolicy=default, RetentionPolicies=kept)
        ],
        MaxNodeID=source.MaxNodeID,
        MaxShardGroupID=source.MaxShardGroupID,
        MaxShardID=source.MaxShardID,
    ).SerializeToString()
    decode_metastore(result)  # a server that cannot decode it reports nothing
    return result


def _trimmed_policy(
    source: pb.RetentionPolicyInfo, shards: Collection[ShardID] | None
) -> pb.RetentionPolicyInfo:
    rp = pb.RetentionPolicyInfo()
    rp.CopyFrom(source)
    del rp.Subscriptions[:]
    del rp.ShardGroups[:]
    wanted = None if shards is None else set(shards)
    for group in source.ShardGroups:
        ids = {ShardID(shard.ID) for shard in group.Shards}
        if group.DeletedAt == 0 and (wanted is None or not wanted.isdisjoint(ids)):
            rp.ShardGroups.add().CopyFrom(group)
    for group in rp.ShardGroups:
        for shard in group.Shards:
            del shard.Owners[:]
            del shard.OwnerIDs[:]
    return rp


def _require(missing: set[str] | set[ShardID], complaint: str) -> None:
    if missing:
        names = ", ".join(ascii(name) for name in sorted(missing)[:5])
        raise NothingMatches(f"{complaint} {names}{', …' if len(missing) > 5 else ''}")
