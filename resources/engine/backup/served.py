"""Shards that a single server's metastore has and it does not serve: planned, or not opened?

Servers plan shard groups ahead: shortly before the newest group of a policy ends they create the
next one, in the metastore alone; the first write creates its shard. And when a server starts, it
leaves out a shard that it cannot open, with a line in its log and no other sign. The first is
normal, the second is a loss. No answer of the server distinguishes them, so:

- A shard that an earlier backup lists as saved, unchanged or failed held something.
- A group that could not have been planned was created by a write. It could have been planned if
  it follows the end of the newest of the groups created before it. Deleted groups count as well.
  If all earlier groups may have been removed, it could have been planned, too.
- Of the others nothing is known. Databases without writes have planned groups far in the past,
  one after the other, so these are no failure; a warning names them once their time has begun.

Tests: test_served.py.

Source: influxdb services/meta/client.go (PrecreateShardGroups), tsdb/store.go (loadShards).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from resources.errors import named_few
from resources.model import (
    INTERNAL_DATABASE,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupInfo,
    ShardID,
    ShardPlace,
)
from resources.repository.formats.details import FailedShard


class Unserved(Struct, frozen=True):
    """Shards that no node serves, classified."""

    failed: tuple[FailedShard, ...] = ()
    """They held something."""
    planned: tuple[ShardPlace, ...] = ()
    """They could have been planned ahead, and nothing shows that they held anything."""


def unserved(
    absent: Iterable[ShardPlace],
    metastore: Metastore,
    held: Callable[[ShardPlace], bool],
    now_ns: int,
) -> Unserved:
    """Separate shards that did not open from planned ones.

    Args:
        absent: shards of the metastore that no node serves.
        held: whether an earlier backup lists the shard.
        now_ns: the server's clock, or ours.
    """
    failed: list[FailedShard] = []
    planned: list[ShardPlace] = []
    for place in absent:
        if place.database == INTERNAL_DATABASE:
            planned.append(place)  # no restore needs it
        elif held(place):
            failed.append(_failed(place.shard_id, "an earlier backup has it"))
        elif not could_be_planned(place.group, _policy(metastore, place), now_ns):
            failed.append(_failed(place.shard_id, "it was not planned ahead, but made by a write"))
        else:
            planned.append(place)
    return Unserved(tuple(failed), tuple(planned))


def could_be_planned(
    group: ShardGroupInfo, policy: RetentionPolicyInfo | None, now_ns: int
) -> bool:
    """Whether a server may have made this group without a write into it.

    Args:
        policy: the group's policy with all its groups, deleted ones included.
    """
    older = [other for other in policy.shard_groups if other.id < group.id] if policy else []
    if not older:
        # The group before it expires sooner, and the server removes it two weeks later.
        duration_ns = policy.duration_ns if policy else 0
        return duration_ns != 0 and group.start_time_ns + duration_ns < now_ns
    last = max(older, key=lambda other: other.start_time_ns)
    return group.start_time_ns <= last.end_time_ns < group.end_time_ns


def named(planned: Sequence[ShardPlace], now_ns: int) -> str:
    """A warning about those whose time has begun; empty if there are none."""
    begun = [
        place
        for place in planned
        if place.group.start_time_ns <= now_ns and place.database != INTERNAL_DATABASE
    ]
    if not begun:
        return ""
    ids = named_few(f"shard {place.shard_id} ({place.database}/{place.policy})" for place in begun)
    return (
        f"{ids}: known to the metastore, served by no node, and in no backup here; they "
        'are empty, or did not open: look for "Failed to open shard" in the log'
    )


def _policy(metastore: Metastore, place: ShardPlace) -> RetentionPolicyInfo | None:
    database = metastore.database(place.database)
    return database.retention_policy(place.policy) if database else None


def _failed(shard_id: ShardID, why: str) -> FailedShard:
    return FailedShard(
        shard_id,
        f"the metastore has it, and no node serves it; {why}: look for "
        f'"Failed to open shard" or "corrupt tsm file" in the log (such a file is renamed to '
        f".bad, and still on the disk); DROP SHARD {shard_id} if it is lost for good",
    )
