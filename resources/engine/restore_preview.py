"""What a restore would do, with everything that stands in its way; nothing is touched.

A restore stops at the first thing that it cannot do. A preview goes on as if that were out of the
way, so that all of it is known at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.preconditions import shards_on_disk
from resources.engine.cluster.restore import prepare_cluster_restore
from resources.engine.cluster.target_plan import draft_databases, plan_cluster_change
from resources.engine.restore.fill_shard import copies_there, require_empty
from resources.engine.restore.plan import (
    DatabaseRestore,
    RestoreOptions,
    RestorePlan,
    ShardRestore,
    plan_restore,
)
from resources.engine.restore.run import prepare_restore
from resources.errors import PlanError, ShardkeeperError, TargetNotEmpty, WireError, WouldExpire
from resources.model import Metastore, NodeInfo, ShardID, ShardPlace
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository


@dataclass(frozen=True, slots=True)
class ShardPreview:
    """A shard that would be restored.

    Attributes:
        new_shard_id: the number that it would get, as things stand; None if a conflict leaves
            it open.
        owners: the data nodes that would get a copy; a single server has none to name.
        expires_at_ns: when the target's retention would delete it; None: never.
        expired: whether that would be at once.
    """

    restore: ShardRestore
    new_shard_id: ShardID | None
    owners: tuple[NodeInfo, ...]
    expires_at_ns: int | None
    expired: bool


@dataclass(frozen=True, slots=True)
class RestorePreview:
    """A plan, and what is in its way.

    Attributes:
        plan: what would be restored if no conflict were there.
        conflicts: why it would be refused as things are; empty: it would begin.
        target_kind: "server" or "cluster".
    """

    plan: RestorePlan
    shards: tuple[ShardPreview, ...]
    conflicts: tuple[ShardkeeperError, ...]
    target: str
    target_kind: str

    @property
    def databases(self) -> tuple[DatabaseRestore, ...]:
        return self.plan.databases

    @property
    def copied_bytes(self) -> int:
        """Tar bytes that would travel: each copy counts."""
        return sum(
            shard.restore.archive.entry.size_bytes * max(1, len(shard.owners))
            for shard in self.shards
        )


def preview_restore(
    target: Server | Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
) -> RestorePreview:
    """Look at a restore from all sides.

    Raises: what `plan_restore` raises, except TargetNotEmpty and WouldExpire, which become
        conflicts; errors of reading the backup or the target.
    """
    raw, now = target.metastore()
    clock_ns = target.about().clock_ns or time.time_ns()
    plan, conflicts = _plan(target, repository, backup, options, now, clock_ns)
    placed: Mapping[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]] = {}
    if plan.into is not None:
        placed = _into_shard(plan, plan.into, now)
        conflicts = _filled(target, plan, plan.into)
    elif isinstance(target, Cluster):
        if not conflicts:
            try:
                placed = _on_cluster(target, plan, options, raw)
            except (PlanError, WireError) as error:
                conflicts = [error]
    else:
        placed = _on_server(plan, now)
    return RestorePreview(
        plan,
        tuple(_shards(plan, placed, clock_ns)),
        tuple(conflicts),
        target.address,
        target.kind,
    )


def _plan(
    target: Server | Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
    now: Metastore,
    clock_ns: int,
) -> tuple[RestorePlan, list[ShardkeeperError]]:
    try:
        if isinstance(target, Cluster):
            return prepare_cluster_restore(target, repository, backup, options), []
        return prepare_restore(target, repository, backup, options), []
    except (TargetNotEmpty, WouldExpire):
        if options.new_shard_id is not None:
            raise
    meta = repository.read_meta(backup)
    conflicts: list[ShardkeeperError] = []

    def plan(there: Metastore, duration_ns: int | None) -> RestorePlan:
        return plan_restore(
            backup,
            meta,
            decode_metastore(meta),
            there,
            replace(options, new_duration_ns=duration_ns),
            now_ns=clock_ns,
            target_name=target.address,
        )

    empty = replace(now, databases=())
    try:
        plan(empty, options.new_duration_ns)
    except WouldExpire as error:
        conflicts.append(error)
    # Planned as if for ever, what would expire is there to be looked at.
    duration_ns = options.new_duration_ns if options.skip_expired else 0
    try:
        plan(now, duration_ns)
    except TargetNotEmpty as error:
        conflicts.append(error)
    whole = plan(empty, duration_ns)
    if not options.skip_expired:
        asked = options.new_duration_ns
        whole = replace(
            whole,
            databases=tuple(
                replace(
                    db,
                    durations={} if asked is None else {rp.name: asked for rp in db.policies},
                )
                for db in whole.databases
            ),
        )
    return whole, conflicts


def _on_cluster(
    cluster: Cluster, plan: RestorePlan, options: RestoreOptions, raw: bytes
) -> dict[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]]:
    draft = draft_databases(plan, options.new_replica_n)
    change = plan_cluster_change(plan, draft, raw, shards_on_disk(cluster))
    return {
        shard.restore.place.shard_id: (shard.id, shard.owners)
        for shard in change.shards
        if shard.restore is not None
    }


def _into_shard(
    plan: RestorePlan, into: ShardPlace, now: Metastore
) -> dict[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]]:
    nodes = {node.id: node for node in now.data_nodes}
    owners = tuple(nodes[owner.node_id] for owner in into.shard.owners)
    return {shard.place.shard_id: (into.shard_id, owners) for shard in plan.shards}


def _filled(
    target: Server | Cluster, plan: RestorePlan, into: ShardPlace
) -> list[ShardkeeperError]:
    """Why the shard cannot take the archive: one thing for each copy that is not empty."""
    conflicts: list[ShardkeeperError] = []
    try:
        for copy in copies_there(target, into):
            try:
                require_empty(copy, into, plan.shards[0].archive)
            except TargetNotEmpty as error:
                conflicts.append(error)
    except (PlanError, WireError) as error:
        conflicts.append(error)
    return conflicts


def _on_server(
    plan: RestorePlan, now: Metastore
) -> dict[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]]:
    """A server numbers shards in the order in which they come, from its last number on."""
    placed: dict[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]] = {}
    next_id = now.max_shard_id + 1
    for database in plan.databases:
        for shard in database.shards:
            placed[shard.place.shard_id] = ShardID(next_id), ()
            next_id += 1
    return placed


def _shards(
    plan: RestorePlan,
    placed: Mapping[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]],
    clock_ns: int,
) -> Iterator[ShardPreview]:
    for database in plan.databases:
        own = {rp.name: rp.duration_ns for rp in database.policies}
        for shard in database.shards:
            policy = shard.place.policy
            duration_ns = database.durations.get(policy, own.get(policy, 0))
            expires = shard.place.group.end_time_ns + duration_ns if duration_ns else None
            new_id, owners = placed.get(shard.place.shard_id, (None, ()))
            yield ShardPreview(
                shard, new_id, owners, expires, expires is not None and expires < clock_ns
            )
