"""Is a database of the temporary name the one that our merge has restored?

The name is random and is noted before the database is created, but a name proves nothing: another
client may have created a database of that name, or something inside it. Before it is dropped, its
content must prove that it is ours:

- After the restore: it has shards, and the journal names all of them. A target uses no shard ID
  twice.
- Before that: its policies and groups are all those that were noted, and no others; its shards
  hold only files of the restore.

It must also have nothing that a restore does not create: continuous queries, subscriptions,
privileges. A database that is not proven stays, and a message names it.

Held by tests/wire/merge/test_not_ours.py and tests/resources/engine/merge/test_own_database.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeAlias

from msgspec import Struct

from resources.engine.cluster.own_shards import added_by_others, shards_of
from resources.engine.restore.plan import RestorePlan
from resources.engine.restore.target import NotOurs, RestoreTarget
from resources.model import DatabaseInfo, Metastore, RetentionPolicyInfo, ShardID
from resources.repository.formats.details import FileID

PolicyShape: TypeAlias = tuple[str, int, int]
"""Name, duration, and duration of shard groups, in ns."""
GroupShape: TypeAlias = tuple[str, int, int, int]
"""Policy, start, end, and number of shards."""


class Made(Struct, frozen=True):
    """What a temporary database will contain.

    Attributes:
        files: files that its shards may hold. They are unknown for an archive whose deletes the
            restore applies, and for an archive of another tool.
    """

    policies: tuple[PolicyShape, ...]
    groups: tuple[GroupShape, ...]
    files: tuple[FileID, ...]


def made_by(restore: RestorePlan) -> Made:
    """The contents that a restore of one database will create."""
    [database] = restore.databases
    wanted = {shard.place.shard_id for shard in restore.shards}
    policies = [
        (rp.name, database.durations.get(rp.name, rp.duration_ns), rp.shard_group_duration_ns)
        for rp in database.policies
    ]
    groups = [
        (rp.name, group.start_time_ns, group.end_time_ns, len(group.shards))
        for rp in database.policies
        for group in rp.shard_groups
        if any(shard.id in wanted for shard in group.shards)
    ]
    known = (shard.archive.entry.details for shard in restore.shards)
    files = {
        file.id
        for details in known
        if details is not None and not details.tombstones
        for file in details.files
    }
    return Made(tuple(sorted(policies)), tuple(sorted(groups)), tuple(sorted(files)))


def not_ours(
    target: RestoreTarget,
    now: Metastore,
    there: DatabaseInfo,
    *,
    shards: Collection[ShardID] | None,
    made: Made | None,
) -> NotOurs | None:
    """Why a database must not be dropped; None if it is the restored one.

    Args:
        shards: the shards that it got; None if they were not noted.
        made: the contents noted before; None: nothing was noted.

    Raises:
        WireError: the cluster does not answer.
    """
    if why := added_by_others(now, there):
        return NotOurs(why)
    ids = shards_of(there)
    if shards is not None:
        if ids and ids <= set(shards):
            return None
        return NotOurs("its shards are not those that were restored")
    if made is None:
        return NotOurs("its contents were not recorded before")
    if _shapes(there.retention_policies) != (sorted(made.policies), sorted(made.groups)):
        return NotOurs("its policies or shard groups are not those that were to be restored")
    return target.more_than_sent(now, dict.fromkeys(ids, frozenset(made.files)))


def _shapes(
    policies: Iterable[RetentionPolicyInfo],
) -> tuple[list[PolicyShape], list[GroupShape]]:
    policies = tuple(policies)
    return (
        sorted((rp.name, rp.duration_ns, rp.shard_group_duration_ns) for rp in policies),
        sorted(
            (rp.name, group.start_time_ns, group.end_time_ns, len(group.shards))
            for rp in policies
            for group in rp.shard_groups
        ),
    )
