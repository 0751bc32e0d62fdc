"""What a restore would do, with everything that stands in its way; nothing is touched.

A restore stops at the first thing that it cannot do. A preview goes on as if that were out of the
way, so that all of it is known at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from resources.engine.restore.plan import (
    DatabaseRestore,
    RestoreOptions,
    RestorePlan,
    ShardRestore,
)
from resources.engine.restore.target import Placement, RestoreTarget
from resources.engine.restore.target_state import TargetState
from resources.errors import ShardkeeperError, TargetNotEmpty, WouldExpire
from resources.model import NodeInfo, ShardID
from resources.repository.backup_set import BackupSet


class ShardPreview(Struct, frozen=True):
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


class RestorePreview(Struct, frozen=True):
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
    target: RestoreTarget, backup: BackupSet, options: RestoreOptions
) -> RestorePreview:
    """Look at a restore from all sides.

    Raises:
        ShardkeeperError: as `plan_restore`, except TargetNotEmpty and WouldExpire, which become
            conflicts; or the backup or the target cannot be read.
    """
    state = target.state()
    plan, conflicts = _plan(target, backup, options, state)
    placement = target.placement(plan, options, state, possible=not conflicts)
    return RestorePreview(
        plan,
        tuple(_shards(plan, placement, state.now_ns)),
        (*conflicts, *placement.conflicts),
        target.connection.address,
        target.connection.kind,
    )


def _plan(
    target: RestoreTarget, backup: BackupSet, options: RestoreOptions, state: TargetState
) -> tuple[RestorePlan, list[ShardkeeperError]]:
    try:
        return target.plan(backup, options, state), []
    except (TargetNotEmpty, WouldExpire):
        if options.new_shard_id is not None:
            raise
    conflicts: list[ShardkeeperError] = []
    empty = state.without({database.name for database in state.metastore.databases})
    try:
        target.plan(backup, options, empty)
    except WouldExpire as error:
        conflicts.append(error)
    # Planned as if for ever, what would expire is there to be looked at.
    duration_ns = options.new_duration_ns if options.skip_expired else 0
    for_ever = replace(options, new_duration_ns=duration_ns)
    try:
        target.plan(backup, for_ever, state)
    except TargetNotEmpty as error:
        conflicts.append(error)
    whole = target.plan(backup, for_ever, empty)
    if options.skip_expired:
        return whole, conflicts
    asked = options.new_duration_ns
    databases = tuple(
        replace(db, durations={} if asked is None else {rp.name: asked for rp in db.policies})
        for db in whole.databases
    )
    return replace(whole, databases=databases), conflicts


def _shards(
    plan: RestorePlan,
    placement: Placement,
    clock_ns: int,
) -> Iterator[ShardPreview]:
    for database in plan.databases:
        own = {rp.name: rp.duration_ns for rp in database.policies}
        for shard in database.shards:
            policy = shard.place.policy
            duration_ns = database.durations.get(policy, own.get(policy, 0))
            expires = shard.place.group.end_time_ns + duration_ns if duration_ns else None
            new_id, owners = placement.shards.get(shard.place.shard_id, (None, ()))
            yield ShardPreview(
                shard, new_id, owners, expires, expires is not None and expires < clock_ns
            )
