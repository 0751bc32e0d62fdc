"""Plan to replace a cluster's metastore by a backup's; nothing is changed.

Databases, policies, shards, users and queries come from the backup. Nodes and the highest IDs come
from the cluster. Files are not touched: a shard that the backup does not have stays on its nodes,
and no query finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from resources.engine.overwrite.overwrite_notes import note_changes, of_shards
from resources.errors import TargetNotEmpty, WouldExpire
from resources.model import INTERNAL_DATABASE, Metastore, NodeID, ShardID, ShardPlace
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import decode_metastore, parse_strictly
from resources.protocol.storable import check_storable
from resources.values import repr_without

OnDisk = Mapping[ShardID, Sequence[str]]
"""TCP addresses of the data nodes that have a shard."""


class Overwrite(Struct, frozen=True):
    """A metastore to be set, and the changes it makes.

    Attributes:
        before, after: the cluster's metastore; the command sets `after.term` and `.index`.
        live, meta: these two, serialized.
        recovered: shards that the metastore gains.
        forgotten: shards that the metastore loses; their files stay.
        without_files: shards that it will have and that no data node has.
        notes: one line for each change.
    """

    before: Metastore
    after: Metastore
    live: bytes
    meta: bytes
    recovered: tuple[ShardPlace, ...]
    forgotten: tuple[ShardPlace, ...]
    without_files: tuple[ShardPlace, ...]
    notes: tuple[str, ...]

    __repr__ = repr_without("live", "meta")

    @property
    def shards(self) -> tuple[ShardPlace, ...]:
        """The shards of the backup."""
        return tuple(p for p in self.after.places() if p.database != INTERNAL_DATABASE)


def plan_overwrite(
    backup: bytes,
    live: bytes,
    on_disk: OnDisk,
    *,
    now_ns: int,
    skip_expired: bool = False,
    target_name: str,
) -> Overwrite:
    """Plan to replace a cluster's metastore by a backup's.

    The cluster keeps its nodes, its identity, the highest IDs if they are higher, and
    `_internal`. An owner that is no longer a data node is removed. A shard whose owners are all
    gone is given to the nodes that have it; if none has it, owners are assigned in turn.

    Args:
        backup, live: serialized `Data`.
        now_ns: the cluster's clock.
        skip_expired: leave out shard groups that the nodes would delete at once, so that their
            files stay.
        target_name: the cluster's name in messages.

    Raises:
        TargetNotEmpty: the backup is of another cluster, whose shards are different.
        WouldExpire: the policies of the backup would delete shards with files.
        PlanError: the cluster would not survive the result.
        BadReply: one of the two is not a metastore.
    """
    before = decode_metastore(live)
    _require_same_cluster(decode_metastore(backup), before, target_name)
    data, there = parse_strictly(pb.Data, backup, "metastore"), parse_strictly(pb.Data, live, "it")
    _keep_internal(data, there)
    expiring = _expiring(data, before, on_disk, now_ns)
    left_out = _leave_out(data, expiring, target_name, skip=skip_expired)
    orphaned = _keep_owners(data, before, on_disk)
    _keep_identity(data, there, on_disk)
    meta = data.SerializeToString()
    check_storable(meta)
    after = decode_metastore(meta)
    known, known_then = _known(before), _known(after)
    forgotten = tuple(known[i] for i in known.keys() - known_then.keys())
    without_files = tuple(place for place in known_then.values() if place.shard_id not in on_disk)
    recovered = tuple(known_then[i] for i in known_then.keys() - known.keys())
    return Overwrite(
        before,
        after,
        live,
        meta,
        _sorted(recovered),
        _sorted(forgotten),
        _sorted(without_files),
        (
            *note_changes(before, after, forgotten=forgotten, without_files=without_files),
            *left_out,
            *orphaned,
        ),
    )


def _require_same_cluster(backup: Metastore, live: Metastore, target_name: str) -> None:
    if backup.cluster_id != live.cluster_id:
        raise TargetNotEmpty(
            f"the backup is of cluster {backup.cluster_id}, and {target_name} is cluster "
            f"{live.cluster_id}: its metastore says nothing about the shards there",
            hint="-meta-only-overwrite-force is for backups of the same cluster; without it, "
            "restore creates databases of other clusters",
        )


def _known(metastore: Metastore) -> dict[ShardID, ShardPlace]:
    return {p.shard_id: p for p in metastore.places() if p.database != INTERNAL_DATABASE}


def _sorted(places: Sequence[ShardPlace]) -> tuple[ShardPlace, ...]:
    return tuple(sorted(places, key=lambda place: place.shard_id))


def _keep_internal(data: pb.Data, there: pb.Data) -> None:
    """Keep the cluster's own `_internal`, at its position; it is never restored."""
    kept = [db for db in data.Databases if db.Name != INTERNAL_DATABASE]
    for at, db in enumerate(there.Databases):
        if db.Name == INTERNAL_DATABASE:
            kept.insert(at, db)
    copies = list(pb.Data(Databases=kept).Databases)
    del data.Databases[:]
    data.Databases.extend(copies)


def _keep_identity(data: pb.Data, there: pb.Data, on_disk: OnDisk) -> None:
    """Keep the nodes, and the highest IDs, so that no ID is used twice."""
    data.Term, data.Index, data.ClusterID = there.Term, there.Index, there.ClusterID
    del data.Nodes[:]
    del data.DataNodes[:]
    del data.MetaNodes[:]
    data.DataNodes.extend(there.DataNodes)
    data.MetaNodes.extend(there.MetaNodes)
    data.MaxNodeID = max(data.MaxNodeID, there.MaxNodeID)
    data.MaxShardGroupID = max(data.MaxShardGroupID, there.MaxShardGroupID)
    data.MaxShardID = max(data.MaxShardID, there.MaxShardID, *on_disk)


def _policies(data: pb.Data) -> list[tuple[pb.DatabaseInfo, pb.RetentionPolicyInfo]]:
    return [
        (db, rp)
        for db in data.Databases
        if db.Name != INTERNAL_DATABASE
        for rp in db.RetentionPolicies
    ]


def _expiring(data: pb.Data, before: Metastore, on_disk: OnDisk, now_ns: int) -> dict[ShardID, str]:
    """Shards with files that nodes would delete after the change, and not without it."""
    gone_anyway = {
        place.shard_id
        for place in before.places()
        if _has_expired(place.group.end_time_ns, _duration_ns(before, place), now_ns)
    }
    return {
        ShardID(shard.ID): f"{db.Name}.{rp.Name}"
        for db, rp in _policies(data)
        for group in rp.ShardGroups
        if not group.DeletedAt and _has_expired(group.EndTime, rp.Duration, now_ns)
        for shard in group.Shards
        if shard.ID in on_disk and shard.ID not in gone_anyway
    }


def _has_expired(end_ns: int, duration_ns: int, now_ns: int) -> bool:
    return bool(duration_ns) and end_ns + duration_ns < now_ns


def _duration_ns(metastore: Metastore, place: ShardPlace) -> int:
    database = metastore.database(place.database)
    policy = database.retention_policy(place.policy) if database else None
    return policy.duration_ns if policy else 0


def _leave_out(
    data: pb.Data, expiring: Mapping[ShardID, str], target_name: str, *, skip: bool
) -> list[str]:
    """Remove the groups of shards that would expire, so that their files stay."""
    if not expiring:
        return []
    text = (
        f"{of_shards(expiring)} on the nodes of {target_name} are older than the policies of the "
        f"backup keep points (the first is of {expiring[min(expiring)]})"
    )
    if not skip:
        raise WouldExpire(
            f"{text}; they would be deleted within minutes",
            hint="-skip-expired leaves them out of the metastore, so that their files stay",
        )
    for _, rp in _policies(data):
        kept = [
            group
            for group in rp.ShardGroups
            if not any(ShardID(shard.ID) in expiring for shard in group.Shards)
        ]
        copies = list(pb.RetentionPolicyInfo(ShardGroups=kept).ShardGroups)
        del rp.ShardGroups[:]
        rp.ShardGroups.extend(copies)
    return [f"{text}: left out of the metastore"]


def _keep_owners(data: pb.Data, before: Metastore, on_disk: OnDisk) -> list[str]:
    """Keep owners that are in the cluster; without any, use nodes with the shard, or assign."""
    nodes = sorted(before.data_nodes, key=lambda node: node.id)
    members = [node.id for node in nodes]
    notes: list[str] = []
    turn = 0
    for _, rp in _policies(data):
        for shard in (shard for group in rp.ShardGroups for shard in group.Shards):
            named = list(shard.OwnerIDs) or [owner.NodeID for owner in shard.Owners]
            left = [NodeID(i) for i in named if i in members]
            if not left:
                there = on_disk.get(ShardID(shard.ID), ())
                left = [node.id for node in nodes if node.tcp_addr in there]
            if not left and members:
                copies = min(max(1, rp.ReplicaN), len(members))
                left = [members[(turn + i) % len(members)] for i in range(copies)]
                turn += copies
            if not set(named) <= set(left):
                gone = ", ".join(str(node_id) for node_id in named if node_id not in members)
                now = ", ".join(map(str, left))
                notes.append(f"shard {shard.ID}: node {gone} is gone, so it is owned by node {now}")
            del shard.OwnerIDs[:]
            del shard.Owners[:]
            shard.Owners.extend(pb.ShardOwner(NodeID=node_id) for node_id in left)
    return notes
