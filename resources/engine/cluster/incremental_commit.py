"""Create a database in a cluster by commands alone, so that no change of a client is lost.

Setting the metastore as a whole undoes what others changed at the same moment; single commands
do not. But then the cluster chooses numbers and bounds, and clients can read and write the shards
before their points are there, since the shards have owners. So a restore takes this way only while
others keep changing the metastore, for a database of a name that is not in use, and if the cluster
creates exactly the groups and shards that the backup has.

Source: influxdb-cluster services/meta/data.go, CreateShardGroup.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from resources.clients.cluster import Cluster
from resources.engine.cluster.metastore_reading import confirmed_reading, databases_of, nodes_of
from resources.engine.cluster.restore_journal import Journal
from resources.engine.cluster.rollback import persistently
from resources.engine.cluster.shard_replicas import factor_for, set_copies
from resources.engine.cluster.target_plan import ClusterChange, NewShard
from resources.engine.restore.plan import NOT_EMPTY, RestorePlan
from resources.errors import DatabaseExists, PlanError, shown
from resources.model import DatabaseInfo, Metastore, RetentionPolicyInfo, ShardGroupInfo, ShardID
from resources.protocol import meta_pb2 as pb
from resources.protocol.commands import (
    CreateDatabase,
    CreateRetentionPolicy,
    CreateShardGroup,
    RetentionPolicySpec,
)

MAX_ATTEMPTS, POLL_EVERY_S = 4, 0.1
QUIET_WITHIN_POLLS = 100

ONE_BY_ONE = "restore databases one by one under new names (-db, -newdb), which undoes nothing"
OTHER_SHARDS = "by single commands, which undo nothing, this cluster would make other shards"


def is_busy(cluster: Cluster, stop: threading.Event) -> bool:
    """Whether a client is changing the metastore.

    Raises:
        WireError: a node does not answer, or refuses.
    """
    _, first = cluster.meta.metastore()
    for _ in range(MAX_ATTEMPTS):
        if stop.wait(POLL_EVERY_S):
            return False
        _, now = cluster.meta.metastore()
        if now.index != first.index:
            return True
    return False


def wait_until_quiet(cluster: Cluster, stop: threading.Event, *, otherwise: str = "") -> None:
    """Wait for a moment in which no client changes the metastore.

    Args:
        otherwise: what else its reader should know, if there is no such moment.

    Raises:
        PlanError: there was none for half a minute or so.
        WireError: a node does not answer, or refuses.
    """
    for _ in range(QUIET_WITHIN_POLLS):
        if not is_busy(cluster, stop):
            return
    raise PlanError(
        "clients keep changing the cluster's metastore, and setting it would undo their changes",
        hint="stop what creates databases, users or policies"
        + (f"; {otherwise}" if otherwise else ""),
    )


def can_be_commanded(plan: RestorePlan, draft: Sequence[pb.DatabaseInfo], n_nodes: int) -> bool:
    """Whether the cluster might make the same by itself; it is seen when it has.

    Args:
        n_nodes: how many data nodes it has.

    Names that were in use are not made so: their writers would write between the points.
    """
    policies = [rp for db in draft for rp in db.RetentionPolicies]
    return (
        all(database.renamed for database in plan.databases)
        and not any(group.TruncatedAt for rp in policies for group in rp.ShardGroups)
        and all(factor_for(rp, n_nodes) is not None for rp in policies)
        and all(
            db.DefaultRetentionPolicy in {rp.Name for rp in db.RetentionPolicies} for db in draft
        )
    )


def announced_names(cluster_id: int, plan: RestorePlan) -> Journal:
    """What the record says before anything is created: names, since no numbers are known yet."""
    names = {database.name: tuple[ShardID, ...]() for database in plan.databases}
    return Journal(cluster_id, names, {}, by_command=True)


def require_free_names(cluster: Cluster, draft: Sequence[pb.DatabaseInfo]) -> None:
    """Insist that the cluster has no database of these names.

    Raises:
        TargetNotEmpty: it has one.
        WireError: a node does not answer, or refuses.
    """
    before = confirmed_reading(cluster, about=databases_of(db.Name for db in draft)).metastore
    for db in draft:
        if before.database(db.Name) is not None:
            raise DatabaseExists(NOT_EMPTY, hint=f"the cluster has {shown(db.Name)} already")


def command_databases(cluster: Cluster, draft: Sequence[pb.DatabaseInfo]) -> int:
    """Create databases, policies and shard groups, with as many copies as they are to have.

    Returns the index that this has reached.

    Raises:
        WireError: some of it may be there.
    """
    before = confirmed_reading(cluster, about=nodes_of).metastore
    reached = before.index
    n_nodes = len(before.data_nodes)
    for db in draft:
        policies = sorted(db.RetentionPolicies, key=lambda rp: rp.Name != db.DefaultRetentionPolicy)
        factors = {rp.Name: factor_for(rp, n_nodes) or rp.ReplicaN for rp in policies}
        first, *others = (_spec(rp, factors[rp.Name]) for rp in policies)
        persistently(cluster, CreateDatabase(db.Name, first))
        for spec in others:
            persistently(cluster, CreateRetentionPolicy(db.Name, spec))
        for rp in policies:
            for group in rp.ShardGroups:
                reached = persistently(cluster, CreateShardGroup(db.Name, rp.Name, group.StartTime))
        about = databases_of([db.Name])
        now = confirmed_reading(cluster, about=about, at_least=reached).metastore
        for rp in policies:
            if factors[rp.Name] != rp.ReplicaN:
                reached = set_copies(cluster, now, db.Name, rp.Name, rp.ReplicaN)
    return reached


def _spec(rp: pb.RetentionPolicyInfo, replica_n: int | None = None) -> RetentionPolicySpec:
    return RetentionPolicySpec(
        rp.Name, rp.Duration, rp.ShardGroupDuration, replica_n or rp.ReplicaN
    )


def what_was_commanded(
    plan: RestorePlan, draft: Sequence[pb.DatabaseInfo], now: Metastore
) -> ClusterChange | None:
    """Pair each shard of the backup with the one that the cluster made; None if it cannot be.

    Args:
        now: the metastore after `command_databases`.
    """
    nodes = {node.id: node for node in now.data_nodes}
    archives = {shard.place.shard_id: shard for shard in plan.shards}
    ids: dict[ShardID, ShardID] = {}
    shards: list[NewShard] = []
    for db in draft:
        made = now.database(db.Name)
        if made is None or not _same_policies(db, made):
            return None
        for rp in db.RetentionPolicies:
            policy = made.retention_policy(rp.Name)
            groups = _by_bounds(policy)
            if set(groups) != {(group.StartTime, group.EndTime) for group in rp.ShardGroups}:
                return None
            for wanted in rp.ShardGroups:
                group = groups[wanted.StartTime, wanted.EndTime]
                if len(group.shards) != len(wanted.Shards):
                    return None
                for old, new in zip(wanted.Shards, group.shards, strict=True):
                    if not new.owners or any(o.node_id not in nodes for o in new.owners):
                        return None
                    old_id = ShardID(old.ID)
                    ids[old_id] = new.id
                    owners = tuple(nodes[owner.node_id] for owner in new.owners)
                    shards.append(NewShard(new.id, db.Name, rp.Name, owners, archives.get(old_id)))
    names = tuple(db.Name for db in draft)
    return ClusterChange(now, b"", names, tuple(shards), ids, kept_ids=False, by_command=True)


def _same_policies(db: pb.DatabaseInfo, made: DatabaseInfo) -> bool:
    there = {
        RetentionPolicySpec(rp.name, rp.duration_ns, rp.shard_group_duration_ns, rp.replica_n)
        for rp in made.retention_policies
    }
    return {
        _spec(rp) for rp in db.RetentionPolicies
    } == there and made.default_retention_policy == db.DefaultRetentionPolicy


def _by_bounds(rp: RetentionPolicyInfo | None) -> Mapping[tuple[int, int], ShardGroupInfo]:
    if rp is None:
        return {}
    return {(group.start_time_ns, group.end_time_ns): group for group in rp.shard_groups}
