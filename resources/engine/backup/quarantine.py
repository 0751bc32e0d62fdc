"""Shards that no archive can hold are set aside, so that the others can be saved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from resources.engine.selection import split_named
from resources.errors import UnsafeName, shown
from resources.model import ShardID, ShardPlace
from resources.repository.formats.details import FailedShard

INTO_ANOTHER = "copy its points into a database with a sound name: SELECT * INTO"
NO_ARCHIVE = "no archive can hold that name, which no statement could have made"


def set_aside(
    wanted: Sequence[ShardPlace], on_disk: Collection[ShardID]
) -> tuple[list[ShardPlace], tuple[FailedShard, ...]]:
    """(shards that an archive can hold, failures for the others that are on disk).

    Raises:
        UnsafeName: only such shards were requested.
    """
    named, odd = split_named(wanted)
    refused = tuple(
        FailedShard(
            place.shard_id,
            f"database {shown(place.database)}, policy {shown(place.policy)}: {NO_ARCHIVE}",
        )
        for place in odd
        if place.shard_id in on_disk
    )
    if refused and not named:
        raise UnsafeName(refused[0].why, hint=INTO_ANOTHER)
    return named, refused


def describe_orphans(orphans: Mapping[ShardID, str]) -> str:
    """A warning about shards that are on the disk and not in the metastore."""
    first = sorted(orphans)[:10]
    listed = ", ".join(f"{shown(orphans[i])}/{i}" for i in first)
    more = f" and {len(orphans) - len(first)} more" if len(orphans) > len(first) else ""
    return (
        f"{len(orphans)} shards are on the server's disk and not in its metastore ({listed}{more}):"
        " nothing reads or writes them, and they are not backed up"
    )
