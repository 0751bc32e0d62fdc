"""The answer to /show-shards: every live shard, with its owners' reports of their replicas.

Source: influxdb-cluster services/meta/store.go, shards and shardInfo; handler.go,
serveShowShards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from resources.model import Metastore, NodeID, ShardID, ShardPlace
from resources.protocol.meta_api import OwnerStatus, ShardStatus

Ask = Callable[[str], Mapping[ShardID, OwnerStatus] | None]


def shard_statuses(
    store: Metastore, now_ns: int, ask: Ask | None
) -> tuple[ShardStatus, ...] | None:
    """List the shards that are neither deleted nor expired; `None` if an owner is not a node.

    Args:
        now_ns: the time by which groups expire.
        ask: requests a data node's shards, by its TCP address; `None`: no requests.
    """
    addrs = {node.id: node.tcp_addr for node in store.data_nodes}
    reply = {node: (ask(addr) or {}) for node, addr in addrs.items()} if ask else None
    listed: list[ShardStatus] = []
    durations = {
        (db.name, rp.name): (rp.duration_ns, rp.replica_n)
        for db in store.databases
        for rp in db.retention_policies
    }
    for place in store.places():
        duration_ns, replica_n = durations[place.database, place.policy]
        end_ns = place.group.end_time_ns
        if duration_ns and end_ns + duration_ns < now_ns:
            continue
        if any(owner.node_id not in addrs for owner in place.shard.owners):
            return None
        expire_ns = end_ns + duration_ns if duration_ns else None
        listed.append(_status(place, replica_n, expire_ns, addrs, reply))
    return tuple(listed)


def _status(
    place: ShardPlace,
    replica_n: int,
    expire_ns: int | None,
    addrs: Mapping[NodeID, str],
    reply: Mapping[NodeID, Mapping[ShardID, OwnerStatus]] | None,
) -> ShardStatus:
    owners: list[OwnerStatus] = []
    for owner in place.shard.owners:
        silent = OwnerStatus(owner.node_id, addrs[owner.node_id])
        if reply is None:
            owners.append(silent)
            continue
        own = reply[owner.node_id].get(place.shard_id)
        found = own is not None and own.id == owner.node_id
        owners.append(
            replace(own, tcp_addr=silent.tcp_addr) if own and found
            else replace(silent, err="not found")
        )  # fmt: skip
    return ShardStatus(
        id=place.shard_id,
        database=place.database,
        policy=place.policy,
        replica_n=replica_n,
        group_id=place.group.id,
        start_time_ns=place.group.start_time_ns,
        end_time_ns=place.group.end_time_ns,
        expire_time_ns=expire_ns,
        truncated_at_ns=place.group.truncated_at_ns,
        owners=tuple(owners),
    )
