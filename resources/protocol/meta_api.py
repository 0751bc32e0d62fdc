"""The JSON of the meta nodes' HTTP API (8091), in both directions.

Unknown keys are ignored, since newer versions add some. Known keys must be present and of their
type.

Source: influxdb-cluster services/meta/handler.go and data.go.
"""

from __future__ import annotations

import re

from msgspec import Struct

from resources.errors import BadReply
from resources.model import NodeID, ShardGroupID, ShardID
from resources.protocol.reply_fields import ReplyFields, each_field
from resources.protocol.snapshotter import go_json
from resources.protocol.strict_json import Json, decode_json
from resources.protocol.times import format_time

MAX_INT64 = 2**63 - 1

_ADDRESS = re.compile(r"[\x21-\x7e]{1,300}")


# --- /show-cluster ------------------------------------------------------------------------


class DataNodeMember(Struct, frozen=True):
    """A data node as a meta node lists it.

    Scheme and version come by gossip. They are empty for some seconds after a start, and again
    half a minute after the node went silent, while `status` stays "joined".
    """

    id: NodeID
    tcp_addr: str
    http_addr: str
    http_scheme: str
    status: str
    version: str

    def to_json(self) -> Json:
        return {
            "id": self.id,
            "tcpAddr": self.tcp_addr,
            "httpAddr": self.http_addr,
            "httpScheme": self.http_scheme,
            "status": self.status,
            "version": self.version,
        }


class MetaNodeMember(Struct, frozen=True):
    """A meta node; `addr` is its HTTP address, `tcp_addr` its raft address."""

    id: NodeID
    addr: str
    http_scheme: str
    tcp_addr: str
    version: str

    def to_json(self) -> Json:
        return {
            "id": self.id,
            "addr": self.addr,
            "httpScheme": self.http_scheme,
            "tcpAddr": self.tcp_addr,
            "version": self.version,
        }


class ClusterMembers(Struct, frozen=True):
    """The members of a cluster."""

    data: tuple[DataNodeMember, ...]
    meta: tuple[MetaNodeMember, ...]

    def encode(self) -> bytes:
        return go_json(
            {
                "data": [node.to_json() for node in self.data] or None,
                "meta": [node.to_json() for node in self.meta] or None,
            }
        )


def cluster_members(raw: bytes) -> ClusterMembers:
    """Read the answer to /show-cluster.

    Raises:
        BadReply: the answer has another form.
    """
    reply = ReplyFields.of(raw, "show-cluster")
    return ClusterMembers(
        reply.each(
            "data",
            lambda node: DataNodeMember(
                NodeID(node.uint("id")),
                node.text("tcpAddr"),
                node.text("httpAddr"),
                node.text("httpScheme"),
                node.text("status"),
                node.text("version"),
            ),
        ),
        reply.each(
            "meta",
            lambda node: MetaNodeMember(
                NodeID(node.uint("id")),
                node.text("addr"),
                node.text("httpScheme"),
                node.text("tcpAddr"),
                node.text("version"),
            ),
        ),
    )


# --- /show-shards -------------------------------------------------------------------------


EMPTY_WRITE_BYTES = 6
"""What a write without points, which creates a shard, leaves in its WAL: a type, a length, and
nothing, compressed. A write of a point, or a delete, leaves more. Seen on 1.8.11-c1.2.0."""


class OwnerStatus(Struct, frozen=True):
    """The status of a shard's replica, as its node or a meta node reports it.

    `state` is hot while the cache is not empty or compactions run, else cold. It is empty if the
    node was not queried, did not answer, or does not have the shard. In the last two cases `err`
    is "not found".
    """

    id: NodeID
    tcp_addr: str
    state: str = ""
    last_modified_ns: int | None = None
    size_bytes: int = 0
    """Files and WAL together: it shrinks when the cache is flushed."""
    err: str = ""

    def has_only(self, size_bytes: int) -> bool:
        """Whether its files have this size, and its WAL at most what created it."""
        return self.size_bytes - size_bytes in (0, EMPTY_WRITE_BYTES)

    def to_json(self) -> Json:
        return {
            "id": self.id,
            "tcpAddr": self.tcp_addr,
            "state": self.state,
            "last-modified": format_time(self.last_modified_ns),
            "size": self.size_bytes,
            "err": self.err,
        }


class ShardStatus(Struct, frozen=True):
    """A shard and its owners; deleted and expired shards are not listed."""

    id: ShardID
    database: str
    policy: str
    replica_n: int
    group_id: ShardGroupID
    start_time_ns: int
    end_time_ns: int
    expire_time_ns: int | None
    """`None` if the policy has no expiry."""
    truncated_at_ns: int | None
    owners: tuple[OwnerStatus, ...]

    def to_json(self) -> Json:
        return {
            "id": self.id,
            "database": self.database,
            "retention-policy": self.policy,
            "replica-n": self.replica_n,
            "shard-group-id": self.group_id,
            "start-time": format_time(self.start_time_ns),
            "end-time": format_time(self.end_time_ns),
            "expire-time": format_time(self.expire_time_ns),
            "truncated-at": format_time(self.truncated_at_ns),
            "owners": [owner.to_json() for owner in self.owners],
        }


def encode_shards(shards: tuple[ShardStatus, ...]) -> bytes:
    return go_json([shard.to_json() for shard in shards] or None)


def shard_statuses(raw: bytes) -> tuple[ShardStatus, ...]:
    """Read the answer to /show-shards; names are unchecked.

    Raises:
        BadReply: the answer has another form.
    """
    return each_field(decode_json(raw, "show-shards"), "show-shards", _shard_status)


def _shard_status(shard: ReplyFields) -> ShardStatus:
    start_ns, end_ns = shard.time("start-time"), shard.time("end-time")
    if start_ns is None or end_ns is None:
        raise BadReply("show-shards names a shard without a time range")
    return ShardStatus(
        id=ShardID(shard.uint("id")),
        database=shard.text("database"),
        policy=shard.text("retention-policy"),
        replica_n=shard.uint("replica-n"),
        group_id=ShardGroupID(shard.uint("shard-group-id")),
        start_time_ns=start_ns,
        end_time_ns=end_ns,
        expire_time_ns=shard.time("expire-time"),
        truncated_at_ns=shard.time("truncated-at"),
        owners=shard.each("owners", owner_status),
    )


def owner_status(owner: ReplyFields) -> OwnerStatus:
    return OwnerStatus(
        NodeID(owner.uint("id")),
        owner.text("tcpAddr"),
        owner.text("state"),
        owner.time("last-modified"),
        owner.uint("size", limit=MAX_INT64),
        owner.text("err"),
    )


# --- /lease -------------------------------------------------------------------------------


class Lease(Struct, frozen=True):
    """The owner of a lease and its expiry; the leader keeps it in memory only."""

    name: str
    expiration_ns: int | None
    owner: NodeID

    def encode(self) -> bytes:
        return go_json(
            {
                "name": self.name,
                "expiration": format_time(self.expiration_ns),
                "owner": self.owner,
            }
        ).rstrip(b"\n")


def lease(raw: bytes) -> Lease:
    """Read the answer to /lease, which has the same form whether the lease was granted or not.

    Raises:
        BadReply: the answer has another form.
    """
    reply = ReplyFields.of(raw, "lease")
    return Lease(reply.text("name"), reply.time("expiration"), NodeID(reply.uint("owner")))


# --- errors -------------------------------------------------------------------------------


def encode_error(text: str) -> bytes:
    return go_json({"error": text}).rstrip(b"\n")


def error_text(raw: bytes) -> str | None:
    """The reason in an error's body; `None` if it is not JSON, as in some older versions."""
    try:
        return ReplyFields.of(raw, "error").text("error")
    except BadReply:
        return None
