"""A restore into a cluster that was killed continues when it is started again.

The record names what the killed run had created. This run believes only what the metastore shows:
every database must be there with exactly the shards, policies and owners of the record, and no
client may have added anything. A copy without an owner, to which no client can have written, is
skipped if the record says that it was read back and its node still has as many bytes of it. Every
other copy is read, or created anew. Otherwise everything is removed, and the restore begins
anew. Held by tests/faults/test_goes_on.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from resources.engine.cluster.own_shards import changed_by_others, shards_of
from resources.engine.cluster.restore_journal import Journal
from resources.engine.cluster.target_plan import ClusterChange, NewShard
from resources.engine.restore.plan import RestorePlan
from resources.model import Metastore, NodeInfo, ShardID
from resources.protocol import meta_pb2 as pb


def what_is_there(
    plan: RestorePlan, draft: Sequence[pb.DatabaseInfo], now: Metastore, left: Journal
) -> ClusterChange | None:
    """What a killed run of a plan has made; None if it is not all of that, or not just that.

    Args:
        draft: the plan's databases.
        now: the cluster's metastore, from a proven look.
        left: the killed run's record.
    """
    names = tuple(db.Name for db in draft)
    if left.proved is not False or set(names) != set(left.databases):
        return None
    if any(not _is_as_recorded(now, name, left) for name in names):
        return None
    shards = _shards(plan, draft, now, left)
    if shards is None or {shard.id for shard in shards} != set(left.copies):
        return None
    kept = all(old == new for old, new in left.ids.items())
    return ClusterChange(now, b"", names, shards, left.ids, kept, left.by_command)


def as_recorded(
    plan: RestorePlan, draft: Sequence[pb.DatabaseInfo], now: Metastore, left: Journal
) -> ClusterChange | None:
    """What a run has made that holds its place still; None if not all of it is there.

    Others may have written to it, if it has owners already; that is looked at nowhere else either.
    """
    shards = _shards(plan, draft, now, left)
    names = tuple(db.Name for db in draft)
    if shards is None or any(now.database(name) is None for name in names):
        return None
    kept = all(old == new for old, new in left.ids.items())
    return ClusterChange(now, b"", names, shards, left.ids, kept, left.by_command)


def _is_as_recorded(now: Metastore, name: str, left: Journal) -> bool:
    there = now.database(name)
    if there is None or shards_of(there) != set(left.databases[name]):
        return False
    if changed_by_others(now, there, left):
        return False
    nodes = {node.id: node.tcp_addr for node in now.data_nodes}
    owners = {
        place.shard_id: {nodes.get(owner.node_id, "") for owner in place.shard.owners}
        for place in now.places()
        if place.database == name
    }
    return all(
        found == (set(left.copies.get(shard_id, ())) if left.by_command else set())
        for shard_id, found in owners.items()
    )


def _shards(
    plan: RestorePlan, draft: Sequence[pb.DatabaseInfo], now: Metastore, left: Journal
) -> tuple[NewShard, ...] | None:
    nodes = {node.tcp_addr: node for node in now.data_nodes}
    archives = {shard.place.shard_id: shard for shard in plan.shards}
    found: list[NewShard] = []
    for db in draft:
        for rp in db.RetentionPolicies:
            for shard in (shard for group in rp.ShardGroups for shard in group.Shards):
                old = ShardID(shard.ID)
                new = left.ids.get(old)
                owners = _members(nodes, left, new)
                if new is None or owners is None:
                    return None
                found.append(NewShard(new, db.Name, rp.Name, owners, archives.get(old)))
    return tuple(found)


def _members(
    nodes: dict[str, NodeInfo], left: Journal, shard_id: ShardID | None
) -> tuple[NodeInfo, ...] | None:
    """The data nodes of a shard's copies; None if one is no member any more."""
    if shard_id is None:
        return None
    copies = left.copies.get(shard_id, ())
    members = tuple(nodes[node] for node in copies if node in nodes)
    return members if members and len(members) == len(copies) else None
