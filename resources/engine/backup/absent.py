"""Shards that the metastore names and no node has: planned ahead, lost, or unknown.

A meta node creates a shard group before its time begins, and the first write into a group creates
all of its shards; a node then has only those that received points. So a shard that is on no node
may be empty. It may also have been on a disk that was lost, or the node could not open it when it
started. The times of a group come from the metastore, so they alone never prove that nothing is
missing:

- the repository has an archive of the shard: it existed and is lost; the shard fails;
- else its group lies in the future and no node has any shard of the group: it is planned;
- else a warning names it, because nothing shows whether it ever held a point.

Source: influxdb-cluster services/precreator/service.go; tsdb/store.go, loadShards ("Failed to
open shard").

Held by: tests/resources/engine/backup/test_absent.py; tests/wire/test_cluster_replicas.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from msgspec import Struct

from resources.errors import counted, named_few
from resources.model import Metastore, ShardID, ShardPlace
from resources.repository.backup_set import Archive

Absence = Literal["planned", "unknown", "lost"]
MAX_NAMED = 10


def absence(
    place: ShardPlace, archive: Archive | None, *, group_is_there: bool, now_ns: int
) -> Absence:
    """Classify a shard that none of its owners has, although all of them answer.

    Args:
        archive: the newest one in the repository.
        group_is_there: whether some node has another shard of its group.
        now_ns: not later than the cluster's own clock.
    """
    if archive is not None:
        details = archive.entry.details
        return "lost" if details is None or details.files else "unknown"
    if place.group.start_time_ns > now_ns and not group_is_there:
        return "planned"
    return "unknown"


def groups_there(metastore: Metastore, there: Collection[ShardID]) -> frozenset[int]:
    """Groups of which at least one shard is on a node."""
    return frozenset(place.group.id for place in metastore.places() if place.shard_id in there)


def why_lost(archive: Archive, owners: Sequence[str]) -> str:
    """Why a shard fails that existed and that no node has any more."""
    return (
        f"no node has it any more, and {archive.entry.file_name} holds what it had: look for "
        f"'Failed to open shard' in the log of {', '.join(owners) or 'its owners'}, and for a "
        "data directory that was lost"
    )


class MissingReplica(Struct, frozen=True):
    """An owner that answers and does not have a shard that another owner has."""

    shard_id: ShardID
    node: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"shard {self.shard_id}: {self.node} owns it and has nothing of it, "
            f"{', '.join(self.others)} has it"
        )


def named(missing: Sequence[MissingReplica]) -> Iterable[str]:
    """One warning for each of the first `MAX_NAMED`, and one with the number of the others."""
    for one in missing[:MAX_NAMED]:
        yield (
            f"{one}: a replica is missing; queries that are sent there see none of its points "
            f"(shardkeeper repair-replica -shard {one.shard_id} fills it)"
        )
    if len(missing) > MAX_NAMED:
        yield f"{len(missing) - MAX_NAMED} more replicas are missing"


def named_unknown(places: Sequence[ShardPlace]) -> str:
    """One warning for all shards of which nothing is known."""
    numbers = named_few(place.shard_id for place in places)
    return (
        f"{counted(len(places), 'shard is', 'shards are')} in the metastore and on no node: "
        f"{numbers}; the cluster does not report whether they ever held points; if they did, "
        "a node lost them or could not open them (look for 'Failed to open shard' in its log)"
    )
