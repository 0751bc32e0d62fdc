"""Shards about which a cluster's metastore and its disks disagree; nothing is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.errors import WireError
from resources.model import Metastore, NodeID, NodeInfo, ShardGroupID, ShardID, ShardPlace
from resources.protocol.meta_api import OwnerStatus, ShardStatus

NOT_FOUND = "not found"
"""What a meta node says of an owner that lacks its shard."""
NOT_AN_OWNER = "not in metadata"

Listed = Mapping[NodeID, Mapping[ShardID, OwnerStatus]]


def inconsistent_shards(cluster: Cluster) -> tuple[tuple[ShardStatus, ...], list[str]]:
    """Shards that an owner lacks, and those that a node has and does not own.

    A shard that is planned ahead, or whose deletion is under way, is none of the latter. Also
    returns why nodes did not answer: of those nothing is known.

    Raises:
        WireError: the meta nodes did not answer.
    """
    _, now = cluster.metastore()
    listed: dict[NodeID, Mapping[ShardID, OwnerStatus]] = {}
    silent: list[str] = []
    for node in now.data_nodes:
        try:
            listed[node.id] = cluster.coordinator(node.tcp_addr).list_shards()
        except WireError as error:
            silent.append(error.what)
    return (*_known(now, listed), *_unknown(now, listed)), silent


def _known(now: Metastore, listed: Listed) -> Iterable[ShardStatus]:
    nodes = {node.id: node for node in now.data_nodes}
    policies = {(db.name, rp.name): rp for db in now.databases for rp in db.retention_policies}
    for place in now.places():
        owners = [owner.node_id for owner in place.shard.owners]
        strangers = [
            i for i, there in listed.items() if place.shard_id in there and i not in owners
        ]
        copies = [
            *(_copy(i, nodes.get(i), place.shard_id, listed) for i in owners),
            *(replace(listed[i][place.shard_id], err=NOT_AN_OWNER) for i in strangers),
        ]
        if any(copy.err for copy in copies):
            rp = policies[place.database, place.policy]
            yield _status(place, rp.replica_n, rp.duration_ns, copies)


def _copy(node_id: NodeID, node: NodeInfo | None, shard_id: ShardID, listed: Listed) -> OwnerStatus:
    there = listed.get(node_id)
    found = None if there is None else there.get(shard_id)
    if found is not None:
        return found
    err = NOT_FOUND if there is not None or node is None else ""
    return OwnerStatus(node_id, node.tcp_addr if node else "", "", None, 0, err)


def _status(
    place: ShardPlace, replica_n: int, duration_ns: int, copies: Iterable[OwnerStatus]
) -> ShardStatus:
    group = place.group
    return ShardStatus(
        id=place.shard_id,
        database=place.database,
        policy=place.policy,
        replica_n=replica_n,
        group_id=group.id,
        start_time_ns=group.start_time_ns,
        end_time_ns=group.end_time_ns,
        expire_time_ns=group.end_time_ns + duration_ns if duration_ns else None,
        truncated_at_ns=group.truncated_at_ns,
        owners=tuple(copies),
    )


def _unknown(now: Metastore, listed: Listed) -> Iterable[ShardStatus]:
    """Shards on disks that no group has, whether it is deleted or not."""
    known = {
        shard.id
        for db in now.databases
        for rp in db.retention_policies
        for group in rp.shard_groups
        for shard in group.shards
    }
    for shard_id in sorted({i for there in listed.values() for i in there} - known):
        copies = tuple(
            replace(there[shard_id], err=NOT_AN_OWNER)
            for there in listed.values()
            if shard_id in there
        )
        yield ShardStatus(shard_id, "", "", 0, ShardGroupID(0), 0, 0, None, None, copies)
