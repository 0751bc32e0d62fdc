"""InfluxDB's own terms: what its metastore contains.

Fields keep their `meta.proto` names in snake_case. Times are `int` nanoseconds since
1970 in UTC (InfluxDB's range and precision exceed `datetime`'s); "unset" is `None`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NewType, Self

from msgspec import Struct
from msgspec.structs import replace

from resources.values import repr_without

NodeID = NewType("NodeID", int)
ShardID = NewType("ShardID", int)
ShardGroupID = NewType("ShardGroupID", int)

INTERNAL_DATABASE = "_internal"
"""The server's own monitoring database: backed up, never restored."""
_MERGING = re.compile("shardkeeper_merge_[0-9a-f]{12}", re.ASCII)


def is_passing(database: str) -> bool:
    """Whether this is the temporary database of a merge, which the merge drops at its end."""
    return _MERGING.fullmatch(database) is not None


class NodeInfo(Struct, frozen=True):
    """A member of a cluster; a single server lists none."""

    id: NodeID
    addr: str
    """HTTP host:port, 8086 on data nodes and 8091 on meta nodes."""
    tcp_addr: str
    """TCP host:port, 8088 on data nodes and 8089 on meta nodes."""


class ShardOwner(Struct, frozen=True):
    """A data node that should have a replica of a shard (meta.proto, ShardOwner)."""

    node_id: NodeID


class ShardInfo(Struct, frozen=True):
    """One shard and its owners; single-node InfluxDB writes shards without owners."""

    id: ShardID
    owners: tuple[ShardOwner, ...] = ()


class ShardGroupInfo(Struct, frozen=True):
    """A time range of a retention policy; the order of its shards decides where a series goes."""

    id: ShardGroupID
    start_time_ns: int
    """Inclusive."""
    end_time_ns: int
    """Exclusive."""
    deleted_at_ns: int | None
    """Set when the group is deleted and waits for removal from the metastore."""
    truncated_at_ns: int | None
    shards: tuple[ShardInfo, ...]


class SubscriptionInfo(Struct, frozen=True):
    """The receivers to which a server forwards the writes of a retention policy."""

    name: str
    mode: str
    destinations: tuple[str, ...]


class RetentionPolicyInfo(Struct, frozen=True):
    """How long points are kept, and how much time a shard group covers."""

    name: str
    duration_ns: int
    """0: no expiry."""
    shard_group_duration_ns: int
    replica_n: int
    shard_groups: tuple[ShardGroupInfo, ...] = ()
    subscriptions: tuple[SubscriptionInfo, ...] = ()
    future_write_limit_ns: int = 0
    """How far in the future points may lie; 0: no limit. InfluxDB 1.12 and later."""
    past_write_limit_ns: int = 0
    """How far in the past points may lie; 0: no limit. InfluxDB 1.12 and later."""


class ContinuousQueryInfo(Struct, frozen=True):
    """A continuous query; `query` is the whole CREATE statement, which names its database."""

    name: str
    query: str


class DatabaseInfo(Struct, frozen=True):
    """A database and its policies; `default_retention_policy` may be empty."""

    name: str
    default_retention_policy: str
    retention_policies: tuple[RetentionPolicyInfo, ...] = ()
    continuous_queries: tuple[ContinuousQueryInfo, ...] = ()

    def retention_policy(self, name: str) -> RetentionPolicyInfo | None:
        return next((rp for rp in self.retention_policies if rp.name == name), None)


class UserPrivilege(Struct, frozen=True):
    """A grant: 0 none, 1 read, 2 write, 3 all."""

    database: str
    privilege: int


class UserInfo(Struct, frozen=True):
    """A user; `hash` is bcrypt and a secret, so it stays out of `repr`."""

    name: str
    hash: str
    admin: bool
    privileges: tuple[UserPrivilege, ...] = ()

    __repr__ = repr_without("hash")


class ShardPlace(Struct, frozen=True):
    """A shard with its database, retention policy and shard group."""

    database: str
    policy: str
    group: ShardGroupInfo
    shard: ShardInfo

    @property
    def shard_id(self) -> ShardID:
        return self.shard.id


class ShardLocation(Struct, frozen=True, order=True):
    """Database, policy and id of a shard; a server's ids are unique across its databases."""

    database: str
    policy: str
    shard_id: ShardID

    @classmethod
    def of(cls, place: ShardPlace) -> Self:
        return cls(place.database, place.policy, place.shard_id)


class Metastore(Struct, frozen=True):
    """The metastore of a server or of a cluster's meta nodes (meta.proto, Data)."""

    term: int
    """0 on a single server."""
    index: int
    cluster_id: int
    databases: tuple[DatabaseInfo, ...]
    users: tuple[UserInfo, ...]
    data_nodes: tuple[NodeInfo, ...]
    meta_nodes: tuple[NodeInfo, ...]
    max_node_id: int
    max_shard_group_id: int
    max_shard_id: int

    def database(self, name: str) -> DatabaseInfo | None:
        return next((db for db in self.databases if db.name == name), None)

    def without(self, names: Collection[str]) -> Metastore:
        """The same metastore without the databases of these names."""
        if not names:
            return self
        kept = tuple(db for db in self.databases if db.name not in names)
        return replace(self, databases=kept)

    def places(self) -> Iterator[ShardPlace]:
        """Yield every shard whose group is not deleted, in the metastore's order."""
        for db in self.databases:
            for rp in db.retention_policies:
                for group in rp.shard_groups:
                    if group.deleted_at_ns is None:
                        for shard in group.shards:
                            yield ShardPlace(db.name, rp.name, group, shard)
