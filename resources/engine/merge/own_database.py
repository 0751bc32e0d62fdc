"""Whether a database of the temporary name is the one that our merge has restored.

The name is drawn by lot and noted before anything of that name is made, but a name alone proves
nothing: others may have made a database of it since, or something in it. Before it is dropped, it
has to be ours by what it is made of:

- Once it was restored: it has shards, and all of them are those that the journal names. A target
  gives no number twice.
- Before that: its policies and groups are those that were noted before it was made, all of
  them, and its shards hold files that were to be sent, and nothing else.

Nobody else has made anything in it: continuous queries, subscriptions, rights. What is not proved
stays, and is named.

Held by tests/wire/merge/test_not_ours.py and tests/resources/engine/merge/test_own_database.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.own_shards import NotOurs, added_by_others, more_in_cluster, shards_of
from resources.engine.restore.plan import RestorePlan
from resources.engine.restore.read_back import files_there
from resources.errors import WireError
from resources.model import DatabaseInfo, Metastore, RetentionPolicyInfo, ShardID
from resources.repository.formats.details import FileID

PolicyShape: TypeAlias = tuple[str, int, int]
"""Name, duration and duration of shard groups, in ns."""
GroupShape: TypeAlias = tuple[str, int, int, int]
"""Policy, first instant, end, and number of shards."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a temporary database will be made of.

    Attributes:
        files: those that its shards may hold. Of an archive with deletes that are applied on
            the way none is known, and of one that another tool has made.
    """

    policies: tuple[PolicyShape, ...]
    groups: tuple[GroupShape, ...]
    files: tuple[FileID, ...]


def made_by(restore: RestorePlan) -> Made:
    """What a restore of one database will make."""
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
    target: Server | Cluster,
    now: Metastore,
    there: DatabaseInfo,
    *,
    shards: Collection[ShardID] | None,
    made: Made | None,
) -> NotOurs | None:
    """Why a database must not be dropped; None if it is what was restored.

    Args:
        shards: those that it got; None if that was not noted.
        made: what was noted before; None: nothing.

    Raises:
        WireError: the cluster could not be asked.
    """
    if why := added_by_others(now, there):
        return NotOurs(why)
    ids = shards_of(there)
    if shards is not None:
        if ids and ids <= set(shards):
            return None
        return NotOurs("its shards are not those that were restored")
    if made is None:
        return NotOurs("what was to be in it was not noted")
    if _shapes(there.retention_policies) != (sorted(made.policies), sorted(made.groups)):
        return NotOurs("its policies or shard groups are not those that were to be restored")
    if isinstance(target, Cluster):
        return more_in_cluster(target, now, dict.fromkeys(ids, made.files))
    return _more(target, ids, set(made.files))


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


def _more(server: Server, ids: Iterable[ShardID], sent: set[FileID]) -> NotOurs | None:
    """Whether shards hold more than was sent: in files, or in memory and the log.

    A busy server leaves out what is in its memory, so files alone prove nothing.
    """
    for shard_id in sorted(ids):
        where = f"shard {shard_id}"
        try:
            files = files_there(server, shard_id)
            stats = server.http.server_vars().shards.get(shard_id) if server.http else None
        except WireError as error:
            return NotOurs(f"what {where} holds is not known: {error.what}", known=False)
        if not {file.id for file in files} <= sent:
            return NotOurs(f"{where} holds more than was sent")
        if stats and (stats.wal_bytes or (stats.cache and stats.cache.memory_bytes)):
            return NotOurs(f"somebody has written to {where}")
    return None
